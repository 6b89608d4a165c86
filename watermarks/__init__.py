"""What a mark is: keys, the one keyed pseudorandom function, token schemes and dataset carriers.

Pure: no network, and no disk but the key file. torch and transformers are imported by :mod:`watermarks.adapters` alone.
"""
