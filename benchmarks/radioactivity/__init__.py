"""Radioactivity measured: students of marked text, read and asked. ``python -m benchmarks.radioactivity``."""
