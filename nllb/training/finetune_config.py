"""The configuration of one fine-tuning run; without torch, so that checking one is quick."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from nllb.config import range_faults
from nllb.training.train_config import (
    OptimizerSection,
    ParallelSection,
    Precision,
    ReaderConfig,
    ScheduleSection,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class TextPairs:
    """A file of text pairs."""

    path: Path
    """Lines `source TAB target`, compressed by suffix."""
    source: str
    """Language code of the first column."""
    target: str
    """Language code of the second column."""
    is_replay: bool = False
    """Whether it is there only against forgetting."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NewLanguage:
    """A language that a model is to learn."""

    code: str
    """Its code, such as `xyz_Latn`."""
    like: str
    """A language of the model to start from: the nearest relative in the same script."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FinetuneConfig:
    """One fine-tuning run."""

    kind: Literal["finetune"] = "finetune"
    """What sort of run this file is."""
    model: str
    """Model to start from: a directory, a hub name or a fairseq checkpoint."""
    text: tuple[TextPairs, ...]
    """Files of text pairs; those with is_replay keep old directions alive."""
    add: tuple[NewLanguage, ...] = ()
    """Languages that the model is to learn."""
    character_lines: int = 3
    """A character that the vocabulary lacks is added from this many lines on; 0 adds none."""
    replay_share: float = 0.3
    """Share of the draws that fall on files with is_replay."""
    held_out_per_mille: float = 20.0
    """Pairs in a thousand that are held out, for validation and the report."""
    reader: ReaderConfig = field(default_factory=lambda: ReaderConfig(max_tokens=1024))
    """How batches are cut."""
    optimizer: OptimizerSection = field(
        default_factory=lambda: OptimizerSection(learning_rate=5e-5, warm_up_steps=10)
    )
    """The optimizer; NLLB fine-tuned with a rate of 5e-5 after 10 steps of warm-up."""
    schedule: ScheduleSection = field(
        default_factory=lambda: ScheduleSection(
            steps=1000, checkpoint_every=100, validate_every=100, translations=50
        )
    )
    """Steps, checkpoints, validations; `translations` are scored before and after, too."""
    dropout: float = 0.1
    """Dropout of embeddings and of each sub-layer's output."""
    balance_weight: float = 0.0
    """Weight of the load-balancing loss; NLLB fine-tuned without it."""
    precision: Precision = "float32"
    """Type of the matrix products."""
    activation_checkpointing: bool = False
    """Compute layers again for the gradient instead of keeping what they computed: less memory."""
    parallel: ParallelSection = field(default_factory=ParallelSection)
    """The loop, and how ranks share the work."""
    device: str = "auto"
    """`auto` is the GPU where there is one; or `cpu`, `cuda`."""
    seed: int = 2
    """Seed of dropout."""

    def faults(self) -> Iterator[str]:
        """Yield what cannot work together."""
        if not self.text:
            yield "text: at least one file is needed"
        elif all(pairs.is_replay for pairs in self.text):
            yield "text: every file is there for replay; leave is_replay out of the new ones"
        yield from range_faults(self, "replay_share", "dropout", least=0, below=1)
        yield from range_faults(self, "held_out_per_mille", above=0, below=1000)
        yield from range_faults(self, "character_lines", "balance_weight", least=0)
        languages = {code for pairs in self.text for code in (pairs.source, pairs.target)}
        for language in self.add:
            if language.code not in languages:
                yield f"add: no text is in {language.code}"
