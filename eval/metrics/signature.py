"""Signatures of scores, in sacrebleu's form: `nrefs:1|case:mixed|tok:13a|version:2.6.0`.

A signature names everything that a score depends on. Its parts are separated by `|`; the name of a
part ends at its first colon, and a part such as `unverified` has a name only.
"""

from collections.abc import Sequence


def parse_signature(signature: str) -> dict[str, str]:
    """Return the values of a signature's parts by name; "" for a part without a value."""
    return dict(part.partition(":")[::2] for part in signature.split("|"))


def with_part(signature: str, name: str, value: object) -> str:
    """Return a signature with another value of one of its parts.

    Raises:
        ValueError: the signature lacks the part.
    """
    if name not in parse_signature(signature):
        raise ValueError(f"the signature {signature!r} has no part {name!r}")
    return "|".join(
        f"{name}:{value}" if part.partition(":")[0] == name else part
        for part in signature.split("|")
    )


def merge_signatures(signatures: Sequence[str]) -> str:
    """Return one signature for several, whose parts list all values."""
    parsed = [parse_signature(signature) for signature in signatures]
    merged = []
    for name in dict.fromkeys(name for parts in parsed for name in parts):
        values = ",".join(dict.fromkeys(parts[name] for parts in parsed if parts.get(name)))
        merged.append(f"{name}:{values}" if values else name)
    return "|".join(merged)
