"""Loads a generator by a model's name, after checking the memory that the model requires."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nllb.config import format_size
from nllb.errors import CheckpointError

if TYPE_CHECKING:
    from nllb.model.formats.model_directory import ModelDirectory

    from .memory_plan import Dtype, MemoryPlan
    from .model_generator import DataType, ModelGenerator

MODEL_VARIABLE = "NLLB_MODEL"
SMALL_MODEL_BYTES = 1 << 30
"""The memory plan of a model that needs less memory and fits is not reported."""


def load_generator(
    name_or_dir: str | Path | None,
    *,
    device: str = "auto",
    dtype: "DataType" = "auto",
    expert_memory: int | None = None,
    num_threads: int | None = None,
    report: Callable[[str], None] | None = None,
) -> "ModelGenerator":
    """Load a model after reporting its memory plan and checking that enough memory is free.

    If `name_or_dir` is None, the model is that of `default_model`.

    Raises:
        CheckpointError: The model does not exist, or cannot be read.
        ResourceError: The model needs more memory than is free.
    """
    if name_or_dir is None:
        name_or_dir, why = default_model()
        if report is not None:
            report(f"model: {name_or_dir} ({why})")
    import torch

    from nllb.model.formats.open_model import open_model

    from .expert_cache import ExpertCache
    from .layers import ExpertStoreFactory, LoadedExperts
    from .model_generator import ModelGenerator, check_data_type
    from .recommended_search import recommended_search

    check_data_type(dtype)
    on_gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    free = torch.cuda.mem_get_info()[0] if on_gpu and torch.cuda.is_available() else None
    if dtype == "auto":
        dtype = "bfloat16" if on_gpu else "int8"
    opened = open_model(name_or_dir)
    plan = _plan(opened, dtype, expert_memory, available=free)
    if report is not None:
        if plan.needed_bytes >= SMALL_MODEL_BYTES or not plan.fits:
            report(plan.describe())
        for line in recommended_search(opened.generation, where=opened.name).describe():
            report(line)
    plan.require()
    experts: ExpertStoreFactory = LoadedExperts
    if plan.num_experts and expert_memory is not None:
        experts = partial(ExpertCache, expert_bytes=plan.expert_bytes, memory_bytes=expert_memory)
    return ModelGenerator.load(
        name_or_dir, device=device, dtype=dtype, num_threads=num_threads, experts=experts
    )


def default_model() -> tuple[str, str]:
    """Return the default model and the reason for this choice.

    The default model is $NLLB_MODEL if it is set, or else the smallest published checkpoint in the
    cache, or else the model that ships with the package.

    Raises:
        CheckpointError: None of these models is available.
    """
    from nllb.model.listing import list_known
    from nllb.model.shipped import DEFAULT_MODEL, shipped_models

    if name := os.environ.get(MODEL_VARIABLE):
        return name, f"set by ${MODEL_VARIABLE}"
    for listing in list_known():
        if listing.state == "cached":
            return listing.name, f"in the cache, weights under {listing.licence}"
    if DEFAULT_MODEL in shipped_models():
        return DEFAULT_MODEL, "ships with nllb; use --model for another, see 'nllb models'"
    raise CheckpointError(no_model_message())


def no_model_message() -> str:
    """Return the error message for a missing model, which lists the ways to get one."""
    from nllb.model.formats.weight_names import list_weights
    from nllb.model.known_models import known_models

    lines = [
        "no model was named, and none is available locally. Choose one with --model (in Python: "
        "Translator.load):"
    ]
    for model in known_models():
        size = format_size(4 * sum(weight.size for weight in list_weights(model.config)))
        lines.append(f"  {model.name}  {size}, weights {model.licence}; {model.summary}")
    lines += [
        "    (Hugging Face hub models, which are downloaded on first use when you name them)",
        "  DIR  a directory in the Hugging Face layout of m2m_100 or nllb-moe",
        "'nllb convert' converts other checkpoints to this layout; 'nllb models' shows details.",
    ]
    return "\n".join(lines)


def describe_model(name_or_dir: str | Path | None) -> dict[str, Any]:
    """Return data that identifies a model: its files, independent of their location.

    Raises:
        CheckpointError: The model does not exist.
    """
    from nllb.model.formats.open_model import open_model

    opened = open_model(default_model()[0] if name_or_dir is None else name_or_dir)
    folder = opened.path if opened.path.is_dir() else opened.path.parent
    files = {path for path in folder.iterdir() if path.is_file()}
    states = sorted((path.name, path.stat()) for path in files | set(dict(opened.weights.files())))
    return {"files": [[name, state.st_size, state.st_mtime_ns] for name, state in states]}


def _plan(
    opened: "ModelDirectory", dtype: "Dtype", expert_memory: int | None, *, available: int | None
) -> "MemoryPlan":
    from .memory_plan import plan_memory

    return plan_memory(
        opened.config,
        dtype=dtype,
        available=available,
        expert_memory=expert_memory,
        disk_bytes=opened.num_bytes,
        # The reading speed matters only if experts are read from the file during translation.
        checkpoint=None if expert_memory is None else opened.weights.file("embedding.weight"),
    )
