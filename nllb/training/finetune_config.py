"""The configuration of one fine-tuning run; without torch, so that checking one is quick."""

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
    """A file of text pairs."""

    path: FilePath
    """Lines `source TAB target`, compressed by suffix."""
    source: Text
    """Language code of the first column."""
    target: Text
    """Language code of the second column."""
    is_replay: bool = False
    """Whether the file only prevents the model from forgetting old directions."""


class NewLanguage(Section):
    """A language to add to the model."""

    code: Text
    """Its code, such as `xyz_Latn`."""
    like: Text
    """A language of the model to start from: the nearest relative in the same script."""


class FinetuneReader(ReaderConfig):
    """Micro-batches of fine-tuning."""

    max_tokens: PositiveInt = 1024
    """Maximum number of tokens of a micro-batch on its longer side, padding included."""


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
    """Optimizer steps of the whole run."""
    checkpoint_every: PositiveInt = 100
    """Steps between checkpoints."""
    validate_every: NonNegativeInt = 100
    """Steps between validations; 0 never validates."""
    translations: NonNegativeInt = 50
    """Held-out pairs of each direction that are translated and scored; 0 translates none."""
    patience: NonNegativeInt = 4
    """Validations without a better result after which training ends; 0 trains to the end."""


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
    """Files of text pairs; those with is_replay keep old directions alive."""
    add: tuple[NewLanguage, ...] = ()
    """Languages to add to the model."""
    min_character_lines: NonNegativeInt = 3
    """A character that the vocabulary lacks is added if it is in this many lines; 0 adds none."""
    replay_share: FractionBelowOne = 0.3
    """Share of the sampled pairs that comes from replay, against forgetting."""
    self_replay_lines: NonNegativeInt = 300
    """If no file has is_replay: lines of the new text that the original model translates into each
    language of self_replay_languages, for replay; 0 trains without replay."""
    self_replay_languages: tuple[Text, ...] = ()
    """Languages of self-replay; if empty, up to eight widely spoken ones that the model knows."""
    interpolation: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (1.0, 0.75, 0.5, 0.25)
    """Candidates for the share of the change of the weights that the result keeps. The smallest one
    is chosen that is about as good as the best one in the new directions, on held-out pairs."""
    held_out_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Fraction of the new and the replay pairs that is held out, for validation and the report."""
    max_held_out_pairs: PositiveInt = 200
    """Maximum number of held-out pairs of each file."""
    reader: FinetuneReader = FinetuneReader()
    """How batches are formed."""
    optimizer: FinetuneOptimizer = FinetuneOptimizer()
    """The optimizer; NLLB fine-tuned with a rate of 5e-5 after 10 steps of warm-up."""
    schedule: FinetuneSchedule = FinetuneSchedule()
    """Steps, checkpoints, validations; `translations` are scored before and after, too."""
    dropout: FractionBelowOne = 0.1
    """Dropout of embeddings and of each sub-layer's output."""
    balance_weight: NonNegativeFloat = 0.0
    """Weight of the load-balancing loss; NLLB fine-tuned without it."""
    precision: Precision = "auto"
    """Number type of the matrix products; `auto` measures which one is faster on this machine."""
    activation_checkpointing: bool = False
    """Recompute layers for the gradient instead of keeping their activations, to save memory."""
    parallel: ParallelSection = ParallelSection()
    """The training loop, and how ranks share the work."""
    device: Text = "auto"
    """`auto` is the GPU where there is one; or `cpu`, `cuda`."""
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
