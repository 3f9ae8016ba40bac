"""Files and directories of other kinds: what they are, and what to do with them instead."""

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
"""The architectures that this package reads, as an error names them."""

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
    ("*.gguf", "a model of llama.cpp (GGUF)"),
    ("*.onnx", "a model exported to ONNX"),
    ("openvino_*.xml", "a model exported to OpenVINO"),
    ("tf_model*.h5", "weights of TensorFlow"),
    ("flax_model*.msgpack", "weights of Flax"),
    ("rust_model.ot", "weights of rust-bert"),
    ("model.npz", "a model of Marian's own format"),
    ("*.nemo", "a model of NVIDIA NeMo"),
)
"""Files by which a format is known, most of them beside a config.json."""
_WEIGHTS: Final = ("int8*.safetensors", "model*.safetensors", "pytorch_model*.bin")
_ARCHIVES: Final = (".zip", ".tar", ".gz", ".tgz", ".xz", ".zst", ".bz2", ".7z")
_QUANTIZED: Final = (".SCB", ".absmax", ".quant_map", ".qweight", ".qzeros", ".weight_scale_inv")
_ORIGINAL: Final = "fetch the original checkpoint of the model, in safetensors or torch form"


def refuse_directory(path: Path) -> None:
    """Refuse a directory that holds a model of a kind that is known and not read.

    Raises:
        CheckpointError: with what it is and what to do.
    """
    for small in (_ADAPTER, "config.json"):
        refuse_pointer(path / small)
    names = [entry.name for entry in path.iterdir()]
    if _is_adapter(names) or _is_ctranslate2(names):
        base = _base_model(path / _ADAPTER)
        raise CheckpointError(f"{path}: {describe_names(names, base_model=base)}")


def describe_names(names: Iterable[str], *, base_model: str = "") -> str | None:
    """Return a sentence on what the files of a directory are and what to do, or None.

    Args:
        names: names of the files.
        base_model: the model that an adapter belongs to, if that is known.
    """
    names = sorted(names)
    if _is_adapter(names):
        base = f" ({base_model})" if base_model else ""
        return (
            f"it is a PEFT adapter (LoRA or a relative), not a whole model: merge it into its base "
            f"model{base} with peft's merge_and_unload(), save the result with save_pretrained(), "
            f"and give that directory"
        )
    if _is_ctranslate2(names):
        return (
            "it is a CTranslate2 directory, which is not read: give the checkpoint that it was "
            "converted from; 'nllb convert' stores it as int8 just as well"
        )
    for pattern, what in _FORMATS:
        if found := [name for name in names if fnmatch(name, pattern)]:
            return f"{found[0]} is {what}, which is not read: {_ORIGINAL}"
    return None


def _is_adapter(names: Iterable[str]) -> bool:
    # Beside whole weights, its files are a leftover.
    return _ADAPTER in names and not any(fnmatch(n, w) for n in names for w in _WEIGHTS)


def _is_ctranslate2(names: Iterable[str]) -> bool:
    return "model.bin" in names and any(fnmatch(name, "*_vocabulary.*") for name in names)


def describe_file(path: Path) -> str:
    """Return a sentence on a file that was given as a model and is none."""
    refuse_pointer(path)
    with path.open("rb") as stream:
        head = stream.read(8)
    if head.startswith(b"GGUF"):
        return f"{path} is a model of llama.cpp (GGUF), which is not read: {_ORIGINAL}"
    if path.suffix in _ARCHIVES:
        return f"{path} is an archive: unpack it and give the directory"
    if path.suffix in (".safetensors", ".bin"):
        return (
            f"{path} holds weights only: give the directory that it lies in, with its config.json"
        )
    if described := describe_names([path.name]):
        return f"{path}: {described}"
    return f"{path} is no checkpoint: a file must be fairseq's .pt; a model is a directory"


def check_architecture(values: Mapping[str, Any], where: str) -> str:
    """Return the architecture that a `config.json` names.

    Raises:
        CheckpointError: it is another one, or its weights were quantised by another program.
    """
    architecture = values.get("model_type")
    if architecture not in ("m2m_100", "nllb-moe"):
        name = _ARCHITECTURES.get(architecture) if isinstance(architecture, str) else None
        named = f"{name}, of type" if name else "type"
        raise CheckpointError(
            f"{where} describes a model of {named} {repr(architecture)[:80]}; readable are "
            f"{READABLE}. Translate with it in transformers, or name one of 'nllb models'"
        )
    quantized = values.get("quantization_config")
    if quantized:
        method = "bitsandbytes"
        if isinstance(quantized, Mapping):
            method = str(quantized.get("quant_method") or method)[:80]
        raise CheckpointError(
            f"{where}: the weights were quantised by {method}, which is not read: {_ORIGINAL}; "
            f"'nllb convert' stores it as int8"
        )
    return str(architecture)


def refuse_quantized(names: list[str], where: Path) -> None:
    """Refuse tensors that a quantising program left in place of weights.

    Raises:
        CheckpointError: with what to do.
    """
    found = [name for name in names if name.endswith(_QUANTIZED) or ".quant_state." in name]
    if found:
        raise CheckpointError(
            f"{where} holds weights that were quantised by another program (bitsandbytes, GPTQ or "
            f"a relative; {found[0][:80]}), which are not read: {_ORIGINAL}"
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
