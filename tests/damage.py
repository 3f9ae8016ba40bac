"""Seeded damage to files: bytes, JSON values, members of archives, headers of safetensors."""

import io
import json
import random
import struct
import zipfile
from pathlib import Path
from typing import Any

_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 3, 10**6, 10**9, 1 << 40, 1 << 63, 10**30, 0.5, -2.5, 1e308),
    *(
        "",
        "x",
        "..",
        "../../etc/passwd",
        "/etc/passwd",
        "C:\\x",
        "a\0b",
        "\ud800",
        "eng_Latn",
        "9" * 5000,
    ),
    *([], [[]], ["x"], [1, 2], {}, {"x": {}}, {"content": 3}),
)


def damage(path: Path, draw: random.Random) -> str:
    """Damage a file in place and return how."""
    data = path.read_bytes()
    ways = [_cut, _flip, _flip, _overwrite, _zero, _repeat, _remove, _insert]
    if path.suffix == ".json":
        ways += [_json] * 12
    if data[:4] == b"PK\x03\x04":
        ways += [_member] * 12
    if path.suffix == ".safetensors":
        ways += [_header] * 8
    if len(data) < 4096 or path.suffix == ".ftz":
        ways += [_integer] * 4
    way = draw.choice(ways)
    path.write_bytes(way(data, draw))
    return way.__name__.removeprefix("_")


def _cut(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.randrange(len(data) + 1)]


def _flip(data: bytes, draw: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.choice([1, 1, 3, 10, 100])):
        if changed:
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _span(data: bytes, draw: random.Random) -> tuple[int, int]:
    begin = draw.randrange(len(data) + 1)
    return begin, min(len(data), begin + draw.choice([1, 4, 8, 40, 400]))


def _overwrite(data: bytes, draw: random.Random) -> bytes:
    begin, end = _span(data, draw)
    return data[:begin] + draw.randbytes(end - begin) + data[end:]


def _zero(data: bytes, draw: random.Random) -> bytes:
    begin, end = _span(data, draw)
    return data[:begin] + draw.choice([b"\0", b"\xff"]) * (end - begin) + data[end:]


def _repeat(data: bytes, draw: random.Random) -> bytes:
    begin, end = _span(data, draw)
    return data[:end] + data[begin:end] * draw.choice([1, 2, 50]) + data[end:]


def _remove(data: bytes, draw: random.Random) -> bytes:
    begin, end = _span(data, draw)
    return data[:begin] + data[end:]


def _insert(data: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(data) + 1)
    piece = draw.choice(
        [b"\0", b"\n", b"[" * 5000, b'{"a":' * 3000, b"\xff\xfe", draw.randbytes(20)]
    )
    return data[:place] + piece + data[place:]


def _integer(data: bytes, draw: random.Random) -> bytes:
    """Overwrite an aligned number with one of those that programs fail on."""
    size, code = draw.choice([(4, "<i"), (8, "<q")])
    if len(data) < size:
        return data
    place = draw.randrange(min(len(data), 400) // 4) * 4 if draw.random() < 0.8 else 0
    place = min(place, len(data) - size)
    value = draw.choice([0, -1, 1, 255, 65536, (1 << 31) - 1, -(1 << 31), 10**9])
    return data[:place] + struct.pack(code, value) + data[place + size :]


def _json(data: bytes, draw: random.Random) -> bytes:
    """Replace or drop one value somewhere in a JSON document."""
    try:
        document = json.loads(data)
    except ValueError:
        return data
    document = _changed(document, draw)
    return json.dumps(document).encode("utf-8", "surrogatepass")


def _changed(value: Any, draw: random.Random) -> Any:
    if isinstance(value, (dict, list)) and value and draw.random() < 0.85:
        key = draw.choice(list(value)) if isinstance(value, dict) else draw.randrange(len(value))
        if draw.random() < 0.15:
            del value[key]
        else:
            value[key] = _changed(value[key], draw)
        return value
    return draw.choice(_VALUES)


def _member(data: bytes, draw: random.Random) -> bytes:
    """Damage one member of an archive, and write the archive anew with right checksums."""
    source = zipfile.ZipFile(io.BytesIO(data))
    chosen = draw.choice(
        [name for name in source.namelist() for _ in range(1 + 6 * name.endswith(".pkl"))]
    )
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == chosen:
                way = draw.choice([_cut, _flip, _flip, _overwrite, _remove, _insert, _repeat])
                content = way(content, draw)
            target.writestr(name, content)
    return stream.getvalue()


def _header(data: bytes, draw: random.Random) -> bytes:
    """Replace one value of a safetensors header."""
    length = int.from_bytes(data[:8], "little")
    header = _json(data[8 : 8 + length], draw)
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[8 + length :]
