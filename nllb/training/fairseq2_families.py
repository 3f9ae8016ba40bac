"""Registers the model families `nllb_dense` and `nllb_moe` with fairseq2.

fairseq2 finds `register` through the entry point group `fairseq2.extension`.
"""

from functools import partial
from typing import Any

from fairseq2.composition import register_model_family
from fairseq2.runtime.config_registry import ConfigRegistrar

from nllb.model.configuration import ModelConfig
from nllb.model.transformer import Transformer

from .architecture import ModelSection, architectures, family_of

NUM_ROWS = 256_206
"""Vocabulary size of the released models; a run uses the size of its own vocabulary."""


def register(container: Any) -> None:
    """Register both families and all named architectures."""
    for family in ("nllb_dense", "nllb_moe"):
        register_model_family(
            container,
            family,
            Transformer,
            _configuration_of(family),
            factory=Transformer,
            supports_meta=False,  # the experts of a rank would stay uninitialised
        )
    for name in architectures():
        family = family_of(name)
        registrar: Any = ConfigRegistrar(container, _configuration_of(family))
        registrar(name)(partial(_configuration, family, name))


class DenseConfig(ModelConfig):
    """Configuration of a dense model; fairseq2 identifies a family by its configuration class."""

    __slots__ = ()


class MoeConfig(ModelConfig):
    """Configuration of a mixture-of-experts model."""

    __slots__ = ()


def _configuration_of(family: str) -> type[ModelConfig]:
    return DenseConfig if family == "nllb_dense" else MoeConfig


def _configuration(family: str, name: str) -> ModelConfig:
    shape = ModelSection(architecture=name).resolve(vocabulary_size=NUM_ROWS)
    values = {key: getattr(shape, key) for key in ModelConfig.__dataclass_fields__}
    return _configuration_of(family)(**values)
