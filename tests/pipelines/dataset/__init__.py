"""Dataset releases through the command."""
