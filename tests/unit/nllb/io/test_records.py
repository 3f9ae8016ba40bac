"""JSON becomes a dataclass only where every field is what it should be."""

from dataclasses import dataclass

import pytest

from nllb.errors import CheckpointError, DataError
from nllb.io.records import to_record


@dataclass(frozen=True, kw_only=True, slots=True)
class Inner:
    name: str
    sizes: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Outer:
    inner: Inner
    share: float | None = None


def test_a_record() -> None:
    value = {"inner": {"name": "a", "sizes": [1, 2]}, "share": 1, "more": {}}
    assert to_record(Outer, value, "x.json") == Outer(
        inner=Inner(name="a", sizes=(1, 2)), share=1.0
    )
    assert to_record(list[Inner], [{"name": "a"}], "x.json") == [Inner(name="a")]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, r"x\.json .*: inner: Field required"),
        ({"inner": {"name": 3}}, r"inner\.name: .*got 3"),
        ({"inner": {"name": "a", "sizes": [1, {}]}}, r"inner\.sizes\.1: .*got a dict"),
        ({"inner": {"name": "a"}, "share": "x" * 10_000}, r"share: .*got 'xxx"),
        ([], "the whole"),
        (None, "the whole"),
    ],
)
def test_what_is_wrong_is_named(value: object, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        to_record(Outer, value, "x.json")
    assert len(str(error.value)) < 500
    with pytest.raises(CheckpointError):
        to_record(Outer, value, "x.json", error=CheckpointError)
