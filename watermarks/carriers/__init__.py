"""Dataset-level marks. Each derives its triggers and, from an independent stream, the answers it expects, from the key.

A model that never saw data depending on those answers matches each of C of them with probability at most 1/C, whatever
its habits are. Triggers are drawn before targets, and none is ever dropped or replaced once its target is known.
"""
