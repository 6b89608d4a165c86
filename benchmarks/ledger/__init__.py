"""What the ledger reaches: ``python -m benchmarks.ledger``."""
