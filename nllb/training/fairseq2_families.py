"""Registers our models with fairseq2: families `nllb_dense` and `nllb_moe`.

fairseq2 finds `register` by the entry point group `fairseq2.extension`.
"""

from functools import partial
from typing import Any

from fairseq2.composition import register_model_family
from fairseq2.runtime.config_registry import ConfigRegistrar

from nllb.model.configuration import ModelConfig
from nllb.model.transformer import Transformer
from nllb.training.architecture import ModelSection, architectures, family_of

NUM_ROWS = 256_206
"""Rows of the released vocabulary; a run takes its own vocabulary's."""


def register(container: Any) -> None:
    """Register both families and every architecture of the table."""
    for family in ("nllb_dense", "nllb_moe"):
        register_model_family(
            container,
            family,
            Transformer,
            _configuration_of(family),
            factory=Transformer,
            supports_meta=False,  # experts of a rank would stay without weights
        )
    for name in architectures():
        family = family_of(name)
        registrar: Any = ConfigRegistrar(container, _configuration_of(family))
        registrar(name)(partial(_configuration, family, name))


class DenseConfig(ModelConfig):
    """Shape of a dense model; fairseq2 tells families apart by the class of their shape."""

    __slots__ = ()


class MoeConfig(ModelConfig):
    """Shape of a model with experts."""

    __slots__ = ()


def _configuration_of(family: str) -> type[ModelConfig]:
    return DenseConfig if family == "nllb_dense" else MoeConfig


def _configuration(family: str, name: str) -> ModelConfig:
    shape = ModelSection(architecture=name).resolve(vocabulary_size=NUM_ROWS)
    values = {key: getattr(shape, key) for key in ModelConfig.__dataclass_fields__}
    return _configuration_of(family)(**values)
