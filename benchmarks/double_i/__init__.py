"""Double-I measured on a real model: ``python -m benchmarks.double_i``."""
