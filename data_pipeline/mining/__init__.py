"""Mining of parallel sentences: encoders, neighbours, margins, and the stage around them."""
