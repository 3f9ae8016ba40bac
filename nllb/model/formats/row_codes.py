"""Tables with few bits per weight: each weight is one of a few levels, scaled per row.

The embedding of a large vocabulary is most of an encoder's size, but most of its rows are rarely
used. The rows are therefore divided into tiers; the more often a row is used, the more levels its
tier has. The table `NAME` is stored as the following tensors:

* `NAME.centre`, float32, C: the mean of all rows, which is added to every row;
* `NAME.tier`, uint8, V: the number of levels N of each row;
* for each tier `NAME.codes.N`, uint8, R x P: its rows, in the order of the table. A byte contains
  as many base-N digits as fit into it; the first weight is the lowest digit;
* `NAME.levels.N`, float32, N: the levels, and `NAME.scale.N`, float16, R: the scales of the rows.

Shapes: V rows of the table, R rows of a tier, C columns, P bytes per row, D digits per byte.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final, Self

import torch
from torch import Tensor

MIN_LEVELS: Final = 2
MAX_LEVELS: Final = 16
CENTRE: Final = ".centre"
TIER: Final = ".tier"
_SAMPLE: Final = 200_000
_ROUNDS: Final = 100
_ROWS_AT_A_TIME: Final = 8192


@dataclass(frozen=True, kw_only=True, slots=True)
class CodedTier:
    """The rows of a table that have the same number of levels.

    Attributes:
        codes_RP: the codes.
        scale_R: the scales of the rows.
        digits: the weights that each of the 256 bytes represents, 256 x D.
    """

    codes_RP: Tensor
    scale_R: Tensor
    digits: Tensor

    def rows(self, places: Tensor) -> Tensor:
        """Return rows of the tier as float32; the last byte can have too many digits."""
        weights = self.digits[self.codes_RP[places].long()].flatten(1)
        return weights * self.scale_R[places].float()[:, None]


@dataclass(frozen=True, kw_only=True, slots=True)
class CodedTable:
    """A table in tiers; rows are decoded when they are requested.

    Attributes:
        centre_C: the mean of all rows.
        tier_V: the number of levels of each row.
        place_V: the index of each row in its tier.
        tiers: the tiers by number of levels.
    """

    centre_C: Tensor
    tier_V: Tensor
    place_V: Tensor
    tiers: Mapping[int, CodedTier]

    @classmethod
    def read(cls, name: str, tensor: Callable[[str], Tensor]) -> Self:
        """Read the table `name`, whose tensors `find_error` has validated."""
        tier_V = tensor(name + TIER)
        place_V = torch.zeros(len(tier_V), dtype=torch.int64)
        tiers = {}
        for number in tier_V.unique().tolist():
            is_in_tier = tier_V == number
            place_V[is_in_tier] = torch.arange(int(is_in_tier.sum()))
            levels = tensor(f"{name}.levels.{number}").float()
            tiers[number] = CodedTier(
                codes_RP=tensor(f"{name}.codes.{number}"),
                scale_R=tensor(f"{name}.scale.{number}"),
                digits=levels[_digits_of_bytes(number)],
            )
        centre_C = tensor(name + CENTRE).float()
        return cls(centre_C=centre_C, tier_V=tier_V, place_V=place_V, tiers=tiers)

    def rows(self, ids: Tensor) -> Tensor:
        """Return rows as float32; the ids must be within the table."""
        shape, ids = ids.shape, ids.flatten()
        found = self.centre_C.repeat(len(ids), 1)
        tier, places = self.tier_V[ids], self.place_V[ids]
        for number, rows in self.tiers.items():
            wanted = (tier == number).nonzero()[:, 0]
            if len(wanted):
                found[wanted] += rows.rows(places[wanted])[:, : found.shape[1]]
        return found.view(*shape, len(self.centre_C))


def encode_rows(name: str, weight_VC: Tensor, tier_V: Tensor) -> dict[str, Tensor]:
    """Return the tensors of a table.

    Args:
        name: name of the table.
        weight_VC: its float32 weights.
        tier_V: the number of levels of each row.
    """
    centre_C = weight_VC.mean(0)
    tensors = {name + CENTRE: centre_C, name + TIER: tier_V.to(torch.uint8)}
    for number in tier_V.unique().tolist():
        ids = (tier_V == number).nonzero()[:, 0]
        levels = _fit_levels(weight_VC[ids], centre_C, number)
        parts = [_encode(weight_VC[some] - centre_C, levels) for some in ids.split(_ROWS_AT_A_TIME)]
        tensors[f"{name}.codes.{number}"] = torch.cat([codes for codes, _ in parts])
        tensors[f"{name}.scale.{number}"] = torch.cat([scale for _, scale in parts])
        tensors[f"{name}.levels.{number}"] = levels
    return tensors


def tensor_names(name: str, all_names: Collection[str]) -> set[str]:
    """Return the names that belong to the table `name` if it is stored in tiers."""
    if name + TIER not in all_names:
        return set()
    parts = (CENTRE, TIER, ".codes.", ".levels.", ".scale.")
    return {each for each in all_names if each.startswith(tuple(name + part for part in parts))}


def find_error(name: str, shape: tuple[int, ...], tensors: Mapping[str, Tensor]) -> str | None:
    """Return the reason why tensors cannot be the table `name` of this shape, or None."""
    num_rows, columns = shape
    expected: dict[str, tuple[tuple[int, ...], torch.dtype]]
    expected = {name + CENTRE: ((columns,), torch.float32), name + TIER: ((num_rows,), torch.uint8)}
    tier = tensors[name + TIER]
    if tuple(tier.shape) != (num_rows,) or tier.dtype != torch.uint8:
        return f"{name + TIER} is {tuple(tier.shape)} of {tier.dtype}, not {num_rows:,} of uint8"
    counts = torch.bincount(tier, minlength=1).tolist()
    for number, count in ((number, count) for number, count in enumerate(counts) if count):
        if not MIN_LEVELS <= number <= MAX_LEVELS:
            return f"{name + TIER} has {number} levels; valid are {MIN_LEVELS} to {MAX_LEVELS}"
        num_bytes = -(-columns // _digits_per_byte(number))
        expected[f"{name}.codes.{number}"] = ((count, num_bytes), torch.uint8)
        expected[f"{name}.scale.{number}"] = ((count,), torch.float16)
        expected[f"{name}.levels.{number}"] = ((number,), torch.float32)
    if odd := sorted(expected.keys() ^ tensors.keys()):
        return f"{odd[0]} is {'missing' if odd[0] in expected else 'not a part of the table'}"
    for part, (wanted, dtype) in expected.items():
        found = tensors[part]
        if (tuple(found.shape), found.dtype) != (wanted, dtype):
            return f"{part} is {tuple(found.shape)} of {found.dtype}, not {wanted} of {dtype}"
    return None


def _digits_per_byte(levels: int) -> int:
    return max(digits for digits in range(1, 9) if levels**digits <= 256)


def _digits_of_bytes(levels: int) -> Tensor:
    """Return the digits of each byte, the lowest first, 256 x D."""
    powers = levels ** torch.arange(_digits_per_byte(levels))
    return torch.arange(256)[:, None] // powers % levels


def _fit_levels(weight_RC: Tensor, centre_C: Tensor, number: int) -> Tensor:
    """Return levels with the least squared error for the weights of rows of unit variance."""
    sample = weight_RC[:: max(1, len(weight_RC) * weight_RC.shape[1] // _SAMPLE)] - centre_C
    values = (sample / _root_mean_square(sample)).flatten().sort().values
    sums = torch.cat([torch.zeros(1, dtype=torch.float64), values.double().cumsum(0)])
    levels = torch.quantile(values[:: max(1, len(values) // 100_000)], _middles(number))
    for _ in range(_ROUNDS):
        bounds = torch.searchsorted(values, (levels[1:] + levels[:-1]) / 2)
        edges = torch.cat([bounds.new_zeros(1), bounds, bounds.new_tensor([len(values)])])
        counts = edges.diff()
        means = (sums[edges[1:]] - sums[edges[:-1]]) / counts.clamp_min(1)
        levels = torch.where(counts > 0, means.float(), levels)
    return levels


def _middles(number: int) -> Tensor:
    return (torch.arange(number) + 0.5) / number


def _root_mean_square(weight_RC: Tensor) -> Tensor:
    root: Tensor = weight_RC.square().mean(1, keepdim=True).sqrt().clamp_min(1e-6)
    return root


def _encode(weight_RC: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the codes and the scales of centred rows."""
    number = len(levels)
    scaled = weight_RC / _root_mean_square(weight_RC)
    nearest = torch.bucketize(scaled, (levels[1:] + levels[:-1]) / 2)
    chosen = levels[nearest]
    # The scale with the least squared error for the chosen levels.
    scale_R = (weight_RC * chosen).sum(1) / chosen.square().sum(1).clamp_min(1e-6)
    digits = _digits_per_byte(number)
    padded = torch.nn.functional.pad(nearest, (0, -nearest.shape[1] % digits))
    powers = number ** torch.arange(digits)
    codes = (padded.view(len(padded), -1, digits) * powers).sum(2).to(torch.uint8)
    return codes, scale_R.half()
