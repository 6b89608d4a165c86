"""Rows in, model folder out. Knows nothing of marks or keys."""
