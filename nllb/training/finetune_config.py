"""The configuration of fine-tuning; it does not import torch, so checking it is fast."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from nllb.config.schema import (
    FilePath,
    FractionBelowOne,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    RenamedKey,
    RunConfig,
    Section,
    Text,
    per_mille,
)

from .train_config import (
    OptimizerSection,
    ParallelSection,
    Precision,
    ReaderConfig,
    ScheduleSection,
)


class TextPairs(Section):
    """A file of sentence pairs."""

    path: FilePath
    """File with lines `source TAB target`; the suffix determines its compression."""
    source: Text
    """Language code of the first column."""
    target: Text
    """Language code of the second column."""
    is_replay: bool = False
    """Whether the file only prevents the model from forgetting its old directions."""


class NewLanguage(Section):
    """A language to add to the model."""

    code: Text
    """Its language code, such as `xyz_Latn`."""
    like: Text
    """A language of the original model: the closest relative in the same script."""


class FinetuneReader(ReaderConfig):
    """Micro-batches of fine-tuning."""

    max_tokens: PositiveInt = 1024
    """Maximum number of tokens on the longer side of a micro-batch, including padding."""


class FinetuneOptimizer(OptimizerSection):
    """Adam with a small learning rate."""

    learning_rate: PositiveFloat = 5e-5
    """Peak learning rate, reached at the end of the warm-up."""
    warm_up_steps: NonNegativeInt = 10
    """Steps of the warm-up."""
    clip_norm: PositiveFloat | None = 1.0
    """Maximum norm of the gradient; null does not clip."""


class FinetuneSchedule(ScheduleSection):
    """A short run that stops when validations no longer improve."""

    steps: PositiveInt = 1000
    """Total number of optimizer steps."""
    checkpoint_every: PositiveInt = 100
    """Steps between checkpoints."""
    validate_every: NonNegativeInt = 100
    """Steps between validations; 0 never validates."""
    translations: NonNegativeInt = 50
    """Held-out pairs per direction that are translated and scored; 0 disables translation."""
    patience: NonNegativeInt = 4
    """Number of validations without improvement after which training stops; 0 disables this."""


class FinetuneConfig(RunConfig):
    """One fine-tuning run."""

    renamed_keys: ClassVar = {
        "held_out_per_mille": RenamedKey("held_out_fraction", per_mille),
        "character_lines": "min_character_lines",
    }

    kind: Literal["finetune"] = "finetune"
    """The kind of run."""
    model: Text
    """Model to start from: a directory, a hub name or a fairseq checkpoint."""
    text: tuple[TextPairs, ...]
    """Files of sentence pairs; those with is_replay preserve old directions."""
    add: tuple[NewLanguage, ...] = ()
    """Languages to add to the model."""
    min_character_lines: NonNegativeInt = 3
    """Minimum number of lines that contain a missing character before it is added; 0 adds none."""
    replay_share: FractionBelowOne = 0.3
    """Fraction of the sampled pairs that is replay, which counteracts forgetting."""
    self_replay_lines: NonNegativeInt = 300
    """Number of lines of the new text that the original model translates into each language of
    self_replay_languages, if no file has is_replay; 0 trains without replay."""
    self_replay_languages: tuple[Text, ...] = ()
    """Languages of self-replay; empty uses up to eight widely spoken languages of the model."""
    interpolation: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (1.0, 0.75, 0.5, 0.25)
    """Candidates for the fraction of the weight change to keep. The result uses the smallest one
    that is about as good as the best one in the new directions, on held-out pairs."""
    held_out_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Fraction of the new and the replay pairs that is held out for validation and the report."""
    max_held_out_pairs: PositiveInt = 200
    """Maximum number of held-out pairs of each file."""
    reader: FinetuneReader = FinetuneReader()
    """How batches are formed."""
    optimizer: FinetuneOptimizer = FinetuneOptimizer()
    """The optimizer; NLLB fine-tuned with a rate of 5e-5 after 10 steps of warm-up."""
    schedule: FinetuneSchedule = FinetuneSchedule()
    """Steps, checkpoints and validations; `translations` are also scored before training."""
    dropout: FractionBelowOne = 0.1
    """Dropout of embeddings and of each sub-layer's output."""
    balance_weight: NonNegativeFloat = 0.0
    """Weight of the load-balancing loss; NLLB fine-tuned without it."""
    precision: Precision = "auto"
    """Number type of the matrix products; `auto` uses the type that is faster on this machine."""
    activation_checkpointing: bool = False
    """Recompute layers in the backward pass instead of storing activations, to save memory."""
    parallel: ParallelSection = ParallelSection()
    """The training loop, and how the ranks divide the work."""
    device: Text = "auto"
    """`cpu`, `cuda`, or `auto`, which uses a GPU if there is one."""
    seed: NonNegativeInt = 2
    """Seed of dropout."""

    def cross_field_errors(self) -> Iterator[str]:
        """Yield missing text and candidates."""
        if not self.interpolation:
            yield "interpolation: expected at least one share; [1.0] keeps the trained weights"
        if not self.text:
            yield "text: expected at least one file"
        elif all(pairs.is_replay for pairs in self.text):
            yield "text: every file has is_replay; remove it from those with new text"
        languages = {code for pairs in self.text for code in (pairs.source, pairs.target)}
        for language in self.add:
            if language.code not in languages:
                yield f"add: no text is in {language.code}"
