"""Finds models of the Hugging Face hub in the local cache, and downloads them when they are named.

Size and licence are shown before anything is fetched. `HF_HUB_OFFLINE`, `HF_HOME`, `HF_ENDPOINT`
and `HF_TOKEN` are honoured by `huggingface_hub`, as everywhere.
"""

import os
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from nllb.config import format_size
from nllb.errors import CheckpointError, ResourceError
from nllb.model.formats.hugging_face import WEIGHT_FILES, shard_paths
from nllb.model.formats.unsupported import describe_names
from nllb.model.known_models import find_known_model

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_SMALL_FILES = (
    *("config.json", "generation_config.json", "nllb.json", "sentencepiece.bpe.model"),
    *("tokenizer_config.json", "tokenizer.json", "special_tokens_map.json", "added_tokens.json"),
    *("shortlists.safetensors", "LICENSE", "README.md"),
)
_WEIGHTS = (
    ("int8*.safetensors", "int8.safetensors.index.json"),
    ("model*.safetensors", "model.safetensors.index.json"),
    ("pytorch_model*.bin", "pytorch_model.bin.index.json"),
)
"""Patterns of weight files; the first form that a model has is taken."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Download:
    """What fetching a model means."""

    name: str
    """The hub name."""
    files: tuple[str, ...]
    """The files that are needed."""
    num_bytes: int
    """Their size."""
    licence: str | None
    """Licence of the weights as the model's page states it."""


def is_hub_name(name: str) -> bool:
    """Say whether a string has the form `owner/model`."""
    return _NAME.fullmatch(name) is not None


def is_offline() -> bool:
    """Say whether the environment forbids to use the network for models."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def find_cached(name: str) -> Path | None:
    """Return the folder of a model in the local cache, whole or not."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "config.json")
    return Path(found).parent if isinstance(found, str) else None


def is_complete(folder: Path) -> bool:
    """Say whether a folder of the cache has weights, all of them, and a vocabulary."""
    return _has_weights(folder) and (folder / "sentencepiece.bpe.model").is_file()


def fetch(
    name: str,
    *,
    offline: bool | None = None,
    announce: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
) -> Path:
    """Return the folder of a hub model; what the cache lacks is downloaded.

    Raises:
        CheckpointError: there is no such model, it cannot be had, or the network may not be used.
        ResourceError: the disk has no room for it.
    """
    offline = is_offline() if offline is None else offline
    cached = find_cached(name)
    if cached is not None and (is_complete(cached) or (offline and _has_weights(cached))):
        return cached
    if offline:
        state = "is in the cache only in part" if cached else "is not in the cache"
        raise CheckpointError(
            f"{name} {state}, and nothing is downloaded in offline mode or to look at a model: "
            f"translate or convert with it while HF_HUB_OFFLINE is unset, or name a directory"
        )
    download = plan_download(name)
    licence = download.licence or "unknown"
    announce(
        f"downloading {name}: {format_size(download.num_bytes)}, licence of the weights: {licence}"
    )
    return _download(download)


def plan_download(name: str) -> Download:
    """Ask the hub what fetching a model would take."""
    from huggingface_hub import HfApi

    info = _ask(name, lambda: HfApi().model_info(name, files_metadata=True))
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
    weights: list[str] = []
    for patterns in _WEIGHTS:
        weights = [f for f in sizes if any(fnmatch(f, pattern) for pattern in patterns)]
        if weights:
            break
    if not weights or "config.json" not in sizes:
        raise CheckpointError(
            f"{name} on the hub is no model in safetensors or torch form: "
            + (
                describe_names(sizes)
                or f"it has {len(sizes)} files, among them {', '.join(sorted(sizes)[:4])}"
            )
        )
    files = tuple(sorted([*weights, *(file for file in _SMALL_FILES if file in sizes)]))
    known = find_known_model(name)
    stated = getattr(info.card_data, "license", None) if info.card_data else None
    return Download(
        name=name,
        files=files,
        num_bytes=sum(sizes[file] for file in files),
        licence=stated or (known.licence if known else None),
    )


def _download(download: Download) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.constants import HF_HUB_CACHE

    cache = Path(HF_HUB_CACHE)
    cache.mkdir(parents=True, exist_ok=True)
    if download.num_bytes > (free := shutil.disk_usage(cache).free):
        raise ResourceError(
            f"{download.name} takes {format_size(download.num_bytes)} and {format_size(free)} are "
            f"free in {cache}: free some, or set HF_HOME to another disk"
        )
    folder = _ask(
        download.name,
        lambda: snapshot_download(
            download.name, revision="main", allow_patterns=list(download.files)
        ),
    )
    return Path(folder)


def _has_weights(folder: Path) -> bool:
    for stem in WEIGHT_FILES:
        if (folder / f"{stem}.index.json").is_file():
            return all(path.is_file() for path in shard_paths(folder, f"{stem}.index.json"))
        if (folder / stem).is_file():
            return True
    return False


def _ask(name: str, call: Callable[[], Any]) -> Any:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        return call()
    except GatedRepoError as error:
        raise CheckpointError(
            f"{name} is given out on conditions: accept them on its page and set HF_TOKEN"
        ) from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"the hub has no model {name}, or it is private and HF_TOKEN is not set; see "
            f"'nllb models'"
        ) from error
    except Exception as error:  # whatever the library's HTTP client raises
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{name} cannot be fetched from the hub: {reason}") from error
