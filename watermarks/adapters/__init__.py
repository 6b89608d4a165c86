"""The same schemes inside someone else's decoding loop."""
