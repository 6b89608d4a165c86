"""Benchmarks of the token schemes: speed, power, distortion, calibration. ``make bench-schemes`` runs all of them."""
