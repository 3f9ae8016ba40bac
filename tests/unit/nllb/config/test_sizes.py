"""Sizes as people write them."""

import pytest

from nllb.config import format_size, parse_size
from nllb.errors import ConfigError


def test_sizes_are_read_as_people_write_them() -> None:
    sizes = {
        "8GiB": 8 << 30,
        "512 MB": 512_000_000,
        "1.5kib": 1536,
        "100": 100,
        "7 B": 7,
        "2g": 2 * 10**9,
    }
    assert {text: parse_size(text) for text in sizes} == sizes


@pytest.mark.parametrize("text", ["", "GiB", "-1GiB", "8 GiBs", "1e9"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="not a size"):
        parse_size(text)


def test_sizes_are_printed_with_their_unit() -> None:
    printed = [format_size(size) for size in (0, 1536, 8 << 30, 150 << 20)]
    assert printed == ["0 B", "1.5 KiB", "8.0 GiB", "150 MiB"]
