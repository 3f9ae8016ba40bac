"""Mining of parallel sentences: neighbours, margins, thresholds, and the stage around them."""
