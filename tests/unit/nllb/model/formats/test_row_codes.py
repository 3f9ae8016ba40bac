"""Tables in tiers: rows keep their order, more levels lose less, and damage is named."""

import pytest
import torch

from nllb.model.formats.row_codes import CodedTable, encode_rows, find_error, tensor_names

NAME = "table"
SHAPE = (90, 34)


@pytest.fixture
def weight():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(SHAPE, generator=generator) * torch.linspace(0.5, 2, SHAPE[0])[:, None] + 3


@pytest.fixture
def tensors(weight):
    tiers = torch.tensor([3, 6, 16] * (SHAPE[0] // 3))
    return encode_rows(NAME, weight, tiers)


def relative_error(table, weight, ids) -> float:
    error = table.rows(ids) - weight[ids]
    return float(error.square().sum() / (weight[ids] - weight.mean(0)).square().sum())


@pytest.mark.parametrize(("tier", "most"), [(0, 0.22), (1, 0.08), (2, 0.02)])
def test_more_levels_lose_less(tensors, weight, tier, most) -> None:
    table = CodedTable.read(NAME, tensors.__getitem__)
    error = relative_error(table, weight, torch.arange(tier, SHAPE[0], 3))
    assert most / 3 < error < most


def test_rows_come_in_the_requested_order_and_shape(tensors) -> None:
    table = CodedTable.read(NAME, tensors.__getitem__)
    whole = table.rows(torch.arange(SHAPE[0]))
    ids = torch.tensor([[5, 0], [89, 5]])
    assert torch.equal(table.rows(ids), whole[ids])
    assert table.rows(torch.tensor([], dtype=torch.int64)).shape == (0, SHAPE[1])


def test_codes_take_the_announced_bytes(tensors) -> None:
    assert {n: tensors[f"{NAME}.codes.{n}"].shape[1] for n in (3, 6, 16)} == {3: 7, 6: 12, 16: 17}
    assert find_error(NAME, SHAPE, tensors) is None
    assert tensor_names(NAME, [*tensors, "table.bias"]) == set(tensors)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(f"{NAME}.codes.6"), "codes.6 is missing"),
        (lambda t: t.update({f"{NAME}.levels.5": torch.ones(5)}), "levels.5 is not a part"),
        (lambda t: t[f"{NAME}.tier"].fill_(0), "0 levels"),
        (lambda t: t[f"{NAME}.tier"].__setitem__(0, 6), "codes.3 is"),
        (lambda t: t.update({f"{NAME}.tier": torch.ones(2, dtype=torch.uint8)}), "tier is"),
        (lambda t: t.update({f"{NAME}.centre": torch.ones(2)}), "centre is"),
        (lambda t: t.update({f"{NAME}.scale.3": torch.ones(30)}), "scale.3 is"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tensors, change, message) -> None:
    change(tensors)
    assert message in find_error(NAME, SHAPE, tensors)
