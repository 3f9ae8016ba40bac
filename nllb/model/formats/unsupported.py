"""Recognises files and directories in unsupported formats and suggests what to do instead."""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final

from nllb.errors import CheckpointError, NllbError
from nllb.io.pointers import refuse_pointer
from nllb.io.text import read_json

_ADAPTER: Final = "adapter_config.json"
_SMALL: Final = 64 << 10

READABLE: Final = "m2m_100 (dense NLLB and M2M-100) and nllb-moe"
"""The supported architectures, for error messages."""

_ARCHITECTURES: Final = {
    "bart": "BART",
    "fsmt": "FSMT (WMT19)",
    "marian": "Marian (OPUS-MT)",
    "mbart": "mBART",
    "mt5": "mT5",
    "pegasus": "Pegasus",
    "seamless_m4t": "SeamlessM4T",
    "seamless_m4t_v2": "SeamlessM4T",
    "switch_transformers": "Switch Transformers",
    "t5": "T5 (MADLAD-400 and others)",
    "umt5": "umT5",
}
_FORMATS: Final = (
    ("*.gguf", "a llama.cpp (GGUF) model"),
    ("*.onnx", "an ONNX model"),
    ("openvino_*.xml", "an OpenVINO model"),
    ("tf_model*.h5", "a TensorFlow weight file"),
    ("flax_model*.msgpack", "a Flax weight file"),
    ("rust_model.ot", "a rust-bert weight file"),
    ("model.npz", "a model in Marian's format"),
    ("*.nemo", "an NVIDIA NeMo model"),
)
"""File name patterns that identify a format; most such directories also have a config.json."""
_WEIGHTS: Final = ("int8*.safetensors", "model*.safetensors", "pytorch_model*.bin")
_ARCHIVES: Final = (".zip", ".tar", ".gz", ".tgz", ".xz", ".zst", ".bz2", ".7z")
_QUANTIZED: Final = (".SCB", ".absmax", ".quant_map", ".qweight", ".qzeros", ".weight_scale_inv")
_ORIGINAL: Final = "use the model's original checkpoint in safetensors or torch format"


def reject_unsupported_directory(path: Path) -> None:
    """Reject a directory with a PEFT adapter or a CTranslate2 model.

    Raises:
        CheckpointError: the message names the format and suggests what to do.
    """
    for small in (_ADAPTER, "config.json"):
        refuse_pointer(path / small)
    names = [entry.name for entry in path.iterdir()]
    if _is_adapter(names) or _is_ctranslate2(names):
        base = _base_model(path / _ADAPTER)
        raise CheckpointError(f"{path}: {describe_names(names, base_model=base)}")


def describe_names(names: Iterable[str], *, base_model: str = "") -> str | None:
    """Return a description of a directory in a known but unsupported format, or None.

    Args:
        names: names of the files in the directory.
        base_model: the base model of an adapter, if known.
    """
    names = sorted(names)
    if _is_adapter(names):
        base = f" ({base_model})" if base_model else ""
        return (
            f"it is a PEFT adapter (such as LoRA) without its base model: merge it into its base "
            f"model{base} with peft's merge_and_unload(), save the result with save_pretrained(), "
            f"and use that directory"
        )
    if _is_ctranslate2(names):
        return (
            "it is a CTranslate2 directory, which is not supported: use the checkpoint from which "
            "it was converted; 'nllb convert' can store it as int8"
        )
    for pattern, what in _FORMATS:
        if found := [name for name in names if fnmatch(name, pattern)]:
            return f"{found[0]} is {what}, which is not supported: {_ORIGINAL}"
    return None


def _is_adapter(names: Iterable[str]) -> bool:
    # If complete weights are present as well, the adapter files are leftovers.
    return _ADAPTER in names and not any(fnmatch(n, w) for n in names for w in _WEIGHTS)


def _is_ctranslate2(names: Iterable[str]) -> bool:
    return "model.bin" in names and any(fnmatch(name, "*_vocabulary.*") for name in names)


def describe_file(path: Path) -> str:
    """Return a description of a file that was given as a model but is not one."""
    refuse_pointer(path)
    with path.open("rb") as stream:
        head = stream.read(8)
    if head.startswith(b"GGUF"):
        return f"{path} is a llama.cpp (GGUF) model, which is not supported: {_ORIGINAL}"
    if path.suffix in _ARCHIVES:
        return f"{path} is an archive: unpack it and give the directory"
    if path.suffix in (".safetensors", ".bin"):
        return (
            f"{path} contains only weights: give the directory with this file and its config.json"
        )
    if described := describe_names([path.name]):
        return f"{path}: {described}"
    return (
        f"{path} is not a checkpoint: give a model directory, or a .pt file of a fairseq checkpoint"
    )


def check_architecture(values: Mapping[str, Any], where: str) -> str:
    """Return the architecture in a `config.json`.

    Raises:
        CheckpointError: it is not supported, or another program quantised the weights.
    """
    architecture = values.get("model_type")
    if architecture not in ("m2m_100", "nllb-moe", "nllb-pretrained-encoder"):
        name = _ARCHITECTURES.get(architecture) if isinstance(architecture, str) else None
        named = f"{name}, of type" if name else "type"
        raise CheckpointError(
            f"{where} describes a model of {named} {repr(architecture)[:80]}; supported are "
            f"{READABLE}. Use transformers to translate with it, or choose a model that "
            f"'nllb models' lists"
        )
    quantized = values.get("quantization_config")
    if quantized:
        method = "bitsandbytes"
        if isinstance(quantized, Mapping):
            method = str(quantized.get("quant_method") or method)[:80]
        raise CheckpointError(
            f"{where}: the weights were quantised with {method}, which is not supported: "
            f"{_ORIGINAL}; 'nllb convert' can store it as int8"
        )
    return str(architecture)


def reject_quantized(names: list[str], where: Path) -> None:
    """Reject weights that another program quantised.

    Raises:
        CheckpointError: a tensor name is that of another quantisation program.
    """
    found = [name for name in names if name.endswith(_QUANTIZED) or ".quant_state." in name]
    if found:
        raise CheckpointError(
            f"{where} contains weights that were quantised with another program (such as "
            f"bitsandbytes or GPTQ; {found[0][:80]}), which are not supported: {_ORIGINAL}"
        )


def _base_model(path: Path) -> str:
    try:
        if path.stat().st_size > _SMALL:
            return ""
        values = read_json(path)
    except (NllbError, OSError):
        return ""
    base = values.get("base_model_name_or_path") if isinstance(values, dict) else None
    return base[:100] if isinstance(base, str) else ""
