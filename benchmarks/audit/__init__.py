"""What an audit of a black box must reach: validity under peeking, economy, and all that follows."""

COMMAND = "python -m benchmarks.audit"
