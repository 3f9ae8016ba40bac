"""Finds Hugging Face hub models in the local cache and downloads those that the user names.

The size and licence are printed before a download. `huggingface_hub` honours `HF_HUB_OFFLINE`,
`HF_HOME`, `HF_ENDPOINT` and `HF_TOKEN` as usual.
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

from .formats.hugging_face import WEIGHT_FILES, shard_paths
from .formats.unsupported import describe_names
from .known_models import find_known_model

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_SMALL_FILES = (
    *("config.json", "generation_config.json", "nllb.json", "sentencepiece.bpe.model"),
    *("tokenizer_config.json", "tokenizer.json", "special_tokens_map.json", "added_tokens.json"),
    "vocab.json",
    *("shortlists.safetensors", "LICENSE", "README.md"),
)
_WEIGHTS = (
    ("int8*.safetensors", "int8.safetensors.index.json"),
    ("model*.safetensors", "model.safetensors.index.json"),
    ("pytorch_model*.bin", "pytorch_model.bin.index.json"),
)
"""Patterns of weight files; the first format that a model provides is used."""

_NO_CONNECTION = frozenset({"ConnectionError", "ConnectError", "Timeout", "TimeoutException"})
"""Names of the exceptions of HTTP clients that could not reach a server."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Download:
    """The files to download for a model.

    Attributes:
        name: the hub name.
        files: the names of the files.
        num_bytes: total size of the files.
        licence: licence of the weights according to the model's page.
    """

    name: str
    files: tuple[str, ...]
    num_bytes: int
    licence: str | None


def is_hub_name(name: str) -> bool:
    """Return whether a string has the form `owner/model`."""
    return _NAME.fullmatch(name) is not None


def is_offline() -> bool:
    """Return whether the environment disables model downloads."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def find_cached(name: str) -> Path | None:
    """Return the directory of a model in the local cache, which may be incomplete."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "config.json")
    return Path(found).parent if isinstance(found, str) else None


def is_complete(folder: Path) -> bool:
    """Return whether a cache directory has all weight files and the vocabulary."""
    vocabularies = ("sentencepiece.bpe.model", "tokenizer.json")
    return _has_weights(folder) and any((folder / name).is_file() for name in vocabularies)


def fetch(
    name: str,
    *,
    offline: bool | None = None,
    announce: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
) -> Path:
    """Return the directory of a hub model, and download the model if the cache lacks it.

    Raises:
        CheckpointError: the model does not exist, cannot be downloaded, or offline mode is on.
        ResourceError: the disk has too little free space.
    """
    offline = is_offline() if offline is None else offline
    cached = find_cached(name)
    if cached is not None and (is_complete(cached) or (offline and _has_weights(cached))):
        return cached
    if offline:
        state = "is only partly in the cache" if cached else "is not in the cache"
        reason = (
            "HF_HUB_OFFLINE is set: unset it to download the model"
            if is_offline()
            else "models are not downloaded to describe them: translate with it or convert it first"
        )
        raise CheckpointError(f"{name} {state}, and {reason}, or give a directory")
    download = plan_download(name)
    licence = download.licence or "unknown"
    announce(
        f"downloading {name}: {format_size(download.num_bytes)}, licence of the weights: {licence}"
    )
    return _download(download)


def plan_download(name: str) -> Download:
    """Query the hub for the files and the size of a model."""
    from huggingface_hub import HfApi

    info = _query_hub(name, lambda: HfApi().model_info(name, files_metadata=True))
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
    weights: list[str] = []
    for patterns in _WEIGHTS:
        weights = [f for f in sizes if any(fnmatch(f, pattern) for pattern in patterns)]
        if weights:
            break
    if not weights or "config.json" not in sizes:
        raise CheckpointError(
            f"{name} on the hub is not a model in safetensors or torch format: "
            + (
                describe_names(sizes)
                or f"it has {len(sizes)} files, including {', '.join(sorted(sizes)[:4])}"
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
            f"{download.name} needs {format_size(download.num_bytes)}, but only "
            f"{format_size(free)} are free in {cache}: free some space, or set HF_HOME to another "
            f"disk"
        )
    folder = _query_hub(
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


def _query_hub(name: str, call: Callable[[], Any]) -> Any:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        return call()
    except GatedRepoError as error:
        raise CheckpointError(
            f"access to {name} is restricted: accept the conditions on its page and set HF_TOKEN"
        ) from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"the hub has no model {name}, or the model is private and HF_TOKEN is not set; run "
            f"'nllb models' for a list of published models"
        ) from error
    except Exception as error:  # The exceptions depend on the library's HTTP client.
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if {kind.__name__ for kind in type(error).__mro__} & _NO_CONNECTION:
            reason = (
                "there is no connection; name a model in the cache or a directory (nllb models)"
            )
        raise CheckpointError(f"{name} cannot be downloaded from the hub: {reason}") from error
