"""What every registered scheme must do, and what the peers did wrong."""
