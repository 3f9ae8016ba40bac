"""Rules that restrict the search to outputs whose byte pieces form valid UTF-8.

A vocabulary with byte fallback encodes a character that it lacks as pieces for its UTF-8 bytes. A
model may generate byte sequences that are not characters, which would become U+FFFD. At each step,
these rules exclude all tokens after which an output could not become valid UTF-8.

Shapes: R rows, T output positions, V vocabulary, K candidates per row.
"""

from typing import Final

import numpy as np

NOT_A_BYTE: Final = -1
_CONTINUATION: Final = (0x80, 0xBF)
_LEADS: Final = ((0xC2, 0xDF, 1), (0xE0, 0xEF, 2), (0xF0, 0xF4, 3))
"""First and last lead byte, and the number of bytes that follow."""
_SECOND_BYTES: Final = {
    0xE0: (0xA0, 0xBF),
    0xED: (0x80, 0x9F),
    0xF0: (0x90, 0xBF),
    0xF4: (0x80, 0x8F),
}
"""Narrower ranges of the second byte: no overlong forms, surrogates, or values past U+10FFFF."""


_MAX_BYTES: Final = 4


class ByteRules:
    """Determines the tokens that keep an output valid UTF-8."""

    def __init__(self, bytes_V: np.ndarray):
        """Prepare the rules.

        Args:
            bytes_V: The byte of each token of the vocabulary, or `NOT_A_BYTE`.
        """
        self._bytes_V = bytes_V
        # The tokens that are forbidden at the start of a character, by the positions left.
        self._start_forbids = np.zeros((_MAX_BYTES + 1, len(bytes_V)), bool)
        for token in np.flatnonzero(bytes_V != NOT_A_BYTE).tolist():
            following = _num_following(int(bytes_V[token]))
            for left in range(_MAX_BYTES + 1):
                self._start_forbids[left, token] = following is None or following >= left

    def forbidden(self, tokens_RT: np.ndarray, left_R: np.ndarray) -> np.ndarray:
        """Return a mask (R, V) of the tokens that would make each row invalid.

        Args:
            tokens_RT: The tokens of each row so far.
            left_R: The number of positions left for each row, including the next one.
        """
        forbidden: np.ndarray = self._start_forbids[np.minimum(left_R, _MAX_BYTES)]
        for row, (low, high) in self.open_characters(tokens_RT).items():
            forbidden[row] = (self._bytes_V < low) | (self._bytes_V > high)
        return forbidden

    def forbidden_among(
        self, tokens_RT: np.ndarray, left_R: np.ndarray, next_RK: np.ndarray
    ) -> np.ndarray:
        """Return a mask (R, K) of the candidates that would make each row invalid."""
        left = np.minimum(left_R, _MAX_BYTES)[:, None]
        forbidden: np.ndarray = self._start_forbids[left, next_RK]
        for row, (low, high) in self.open_characters(tokens_RT).items():
            bytes_K = self._bytes_V[next_RK[row]]
            forbidden[row] = (bytes_K < low) | (bytes_K > high)
        return forbidden

    def open_characters(self, tokens_RT: np.ndarray) -> dict[int, tuple[int, int]]:
        """Return the rows that end inside a character, each with the range of its next byte."""
        if not tokens_RT.shape[1]:
            return {}
        tails = self._bytes_V[tokens_RT[:, 1 - _MAX_BYTES :]]
        found = {}
        for row in np.flatnonzero(tails[:, -1] >= _CONTINUATION[0]).tolist():
            expected = _next_byte(tails[row].tolist())
            if expected is not None:
                found[row] = expected
        return found


def byte_rules(bytes_V: np.ndarray) -> ByteRules | None:
    """Return the rules for a vocabulary; None if it has no byte pieces."""
    return ByteRules(bytes_V) if (bytes_V != NOT_A_BYTE).any() else None


def _num_following(byte: int) -> int | None:
    """Return the number of bytes that follow a lead byte; None if the byte cannot be one."""
    if byte < _CONTINUATION[0]:
        return 0
    return next((count for first, last, count in _LEADS if first <= byte <= last), None)


def _next_byte(tail: list[int]) -> tuple[int, int] | None:
    """Return the range of the next byte after the last bytes of an output, or None if complete."""
    for length in range(1, len(tail) + 1):
        lead = tail[-length]
        if lead < _CONTINUATION[0]:
            return None  # Not a byte, or ASCII.
        if lead > _CONTINUATION[1]:
            following = _num_following(lead)
            if following is None or length > following:
                return None
            return _SECOND_BYTES.get(lead, _CONTINUATION) if length == 1 else _CONTINUATION
    return None
