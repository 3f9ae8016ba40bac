"""`nllb models` lists shipped, published and local models with size, memory and licence."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nllb.config import format_size
from nllb.io.text import json_line, read_json

if TYPE_CHECKING:
    from nllb.model.listing import Listing


def models_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name",
        metavar="NAME",
        nargs="?",
        help="a published model, a directory, a hub name in the cache, or 'mini', which ships with "
        "the package; default: all shipped and published models",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per model")


def models(arguments: argparse.Namespace) -> int:
    from nllb.model.listing import list_known, list_model, list_shipped

    if arguments.name is None:
        listed = [*list_shipped(), *list_known()]
    else:
        listed = [list_model(arguments.name)]
    if arguments.json:
        for listing in listed:
            print(json_line(_fields(listing)))
    elif arguments.name is not None:
        print(_describe(listed[0]))
    else:
        print(_table(listed))
        print(_shipped())
    return 0


def _shipped() -> str:
    """Return a line for each model that ships with the package."""
    packages = Path(__file__).parent.parent.parent
    lines = ["", "Models that ship with the package, each with its licence file:"]
    for path, what in _SHIPPED.items():
        card = packages / path
        if card.is_file():
            size = format_size(sum(f.stat().st_size for f in card.parent.rglob("*") if f.is_file()))
            licence = read_json(card)["licence"]
            lines.append(f"  {what}  {size}  {licence}  {card.parent.relative_to(packages)}")
    return "\n".join(lines)


_SHIPPED = {
    "nllb/_models/mini/nllb.json": "translation (mini)",
    "lid/_models/default/card.json": "language identification",
    "data_pipeline/_models/encoder/encoder.json": "sentence encoder for mining",
}


def _fields(listing: "Listing") -> dict[str, Any]:
    from nllb.inference.memory_plan import WORKING_BYTES

    config = listing.config
    sizes = listing.weight_bytes()
    return {
        "name": listing.name,
        "summary": listing.summary,
        "architecture": config.architecture,
        "parameters": listing.parameters,
        "experts": config.num_experts,
        "languages": listing.languages,
        "disk_bytes": listing.disk_bytes,
        "memory_bytes": {storage: size + WORKING_BYTES for storage, size in sizes.items()},
        "licence": listing.licence,
        "state": listing.state,
        "path": None if listing.path is None else str(listing.path),
    }


def _table(listed: list["Listing"]) -> str:
    rows: list[tuple[str, ...]] = [
        ("model", "parameters", "download", "memory int8", "bfloat16", "float32", "licence", "")
    ]
    for listing in listed:
        fields = _fields(listing)
        memory = [fields["memory_bytes"][name] for name in ("int8", "bfloat16", "float32")]
        sizes = map(format_size, [fields["disk_bytes"], *memory])
        count = listing.parameters
        parameters = f"{count / 1e9:.2f} B" if count > 1e8 else f"{count / 1e6:.0f} M"
        rows.append((listing.name, parameters, *sizes, listing.licence, listing.state))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, "", *_NOTES])


_NOTES = (
    "The licence is that of the weights; CC-BY-NC-4.0 forbids commercial use. The code is MIT.",
    "Sizes are computed from the configuration: float32 files, and memory for the whole model.",
    "A model is downloaded when a command names it: nllb translate --model NAME, nllb convert NAME "
    "OUT.",
    "The default model is $NLLB_MODEL, or the smallest of these in the cache, or mini.",
)


def _describe(listing: "Listing") -> str:
    fields = _fields(listing)
    memory = ", ".join(
        f"{format_size(size)} {name}" for name, size in fields["memory_bytes"].items()
    )
    experts = (
        f", {listing.config.num_experts} experts per layer" if listing.config.num_experts else ""
    )
    lines = [
        f"{listing.name}: {listing.summary}",
        f"shape: {fields['architecture']}, {listing.parameters:,} parameters{experts}",
        f"languages: {listing.languages}",
        f"disk: {format_size(listing.disk_bytes)}",
        f"memory: {memory}",
        f"licence of the weights: {listing.licence}",
        f"state: {listing.state}" + (f" ({listing.path})" if listing.path else ""),
    ]
    return "\n".join(lines)
