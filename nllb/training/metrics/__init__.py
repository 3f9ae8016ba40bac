"""What a run records while it trains, and where the records go."""
