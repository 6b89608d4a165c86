"""Where text is made."""
