"""The configuration of one training run."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from nllb.config import range_faults
from nllb.model.routing_options import RoutingOptions
from nllb.training.architecture import ModelSection
from nllb.training.noise import NoiseConfig

Runner = Literal["fairseq2", "plain"]
DataParallel = Literal["ddp", "fsdp2"]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReaderConfig:
    """How batches are cut."""

    max_tokens: int = 4096
    """Most tokens of a micro-batch on its longer side, padding included."""
    batches_per_step: int = 1
    """Micro-batches of one optimizer step, over all ranks."""
    max_length: int = 512
    """Longest side in tokens; longer pairs are left out and counted."""
    temperature: float | None = None
    """Sampling temperature; null takes the manifest's."""
    by_labels: bool = False
    """Directions get their shares of the labels instead of the pairs, so that long sentences do not
    take a step from short ones."""
    join: float = 0.0
    """Probability that a pair goes on with another one of its direction, so that longer texts than
    the corpora hold are learnt, too."""
    seed: int = 2
    """Seed of the data order."""
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    """Noise of denoising sources."""

    def faults(self) -> Iterator[str]:
        """Yield what cannot work."""
        yield from range_faults(self, "max_tokens", "batches_per_step", "max_length", least=1)
        yield from range_faults(self, "temperature", above=0)
        yield from range_faults(self, "join", least=0, below=1)
        if self.max_tokens < self.max_length:
            yield (
                f"max_tokens {self.max_tokens} cannot hold one pair of max_length {self.max_length}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class LexiconSection:
    """First embeddings from the translations of pieces, counted in the training pairs."""

    pivot: str | None = None
    """Language whose pieces the others are explained by; null leaves embeddings random."""
    meaning: float = 0.75
    """How much of an embedding is the mean of its translations into the pivot."""
    language: float = 0.4
    """How much is its language; the squares of both and of the random rest sum to 1."""
    iterations: int = 5
    """Rounds of expectation and maximisation."""
    least_pairs: int = 1000
    """Pairs with the pivot that a language needs to be counted."""

    def faults(self) -> Iterator[str]:
        """Yield what cannot work."""
        yield from range_faults(self, "meaning", "language", least=0, most=1)
        if self.meaning**2 + self.language**2 > 1:
            yield f"the squares of meaning {self.meaning} and language {self.language} exceed 1"
        yield from range_faults(self, "iterations", "least_pairs", least=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerSection:
    """Adam, and a rate that warms up and then falls with the inverse square root of the step."""

    learning_rate: float = 1e-3
    """Highest learning rate, reached at the end of the warm-up."""
    warm_up_steps: int = 8000
    """Steps of the warm-up."""
    cool_down_steps: int = 0
    """Last steps, over which the rate falls to nothing in a line; NLLB had none."""
    beta_1: float = 0.9
    """Decay of Adam's first moment."""
    beta_2: float = 0.98
    """Decay of Adam's second moment."""
    epsilon: float = 1e-6
    """What Adam adds to the root of the second moment."""
    weight_decay: float = 0.0
    """Weight decay, decoupled from the gradient."""
    clip_norm: float | None = None
    """Largest norm of the gradient; null does not clip."""

    def faults(self) -> Iterator[str]:
        """Yield what cannot work."""
        yield from range_faults(self, "learning_rate", "epsilon", "clip_norm", above=0)
        yield from range_faults(self, "warm_up_steps", "cool_down_steps", "weight_decay", least=0)
        yield from range_faults(self, "beta_1", "beta_2", least=0, below=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleSection:
    """How long, and what happens every how many steps."""

    steps: int = 100_000
    """Optimizer steps of the whole run."""
    checkpoint_every: int = 1000
    """Steps between checkpoints."""
    keep_last: int = 2
    """Newest checkpoints that are kept; the best one is kept besides."""
    validate_every: int = 1000
    """Steps between validations; 0 is never."""
    validation_pairs: int = 200
    """Held-out pairs of each direction that a validation takes, at most."""
    translations: int = 0
    """Held-out pairs of each direction that a validation translates and scores; 0 is none."""
    best_by: Literal["loss", "chrf"] = "loss"
    """What makes a checkpoint the best: the validation loss, or chrF++ of the translations."""
    patience: int = 0
    """Validations without a better result after which training ends; 0 goes on to the end."""
    log_every: int = 50
    """Steps between lines of metrics."""

    def faults(self) -> Iterator[str]:
        """Yield what cannot work."""
        positive = ("steps", "checkpoint_every", "keep_last", "validation_pairs", "log_every")
        yield from range_faults(self, *positive, least=1)
        yield from range_faults(self, "validate_every", "translations", "patience", least=0)
        if self.best_by == "chrf" and not self.translations:
            yield "best_by: chrf needs translations above 0"
        if self.patience and not self.validate_every:
            yield "patience needs validate_every above 0"


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillationSection:
    """Learning a teacher's probabilities of every label (online, word-level distillation)."""

    teacher: str | None = None
    """A model with the same vocabulary: a directory, a hub name or a fairseq checkpoint; null is
    none."""
    temperature: float = 1.0
    """Both models' logits are divided by it; the gradient is scaled back by its square."""
    alpha: float = 0.5
    """Share of the teacher in the loss; the labels have the rest."""

    def faults(self) -> Iterator[str]:
        """Yield what cannot work."""
        yield from range_faults(self, "temperature", above=0)
        yield from range_faults(self, "alpha", least=0, most=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class ParallelSection:
    """Which loop trains, and how ranks share the work; their number comes from the launcher."""

    runner: Runner = "fairseq2"
    """`fairseq2` is fairseq2's trainer; `plain` a small loop with the same result without it."""
    data: DataParallel = "ddp"
    """`ddp` keeps the weights on every rank; `fsdp2` shards them."""
    experts: bool = False
    """Spread the experts over the ranks, with all-to-all exchange, instead of a copy on each."""

    def faults(self) -> Iterator[str]:
        """Yield what cannot work."""
        if self.experts and self.data == "fsdp2":
            yield "experts: true goes with data: ddp only"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """One training run."""

    kind: Literal["train"] = "train"
    """What sort of run this file is."""
    data: Path
    """Folder of the manifest that `nllb data run` wrote."""
    model: ModelSection = field(default_factory=ModelSection)
    """The model."""
    routing: RoutingOptions = field(default_factory=RoutingOptions)
    """How tokens find experts."""
    reader: ReaderConfig = field(default_factory=ReaderConfig)
    """How batches are cut."""
    lexicon: LexiconSection = field(default_factory=LexiconSection)
    """What the embeddings begin with."""
    label_smoothing: float = 0.1
    """Share of the probability that is spread over the whole vocabulary."""
    softmax_negatives: int = 0
    """Random tokens that training tells a micro-batch's labels from, besides the other labels; 0
    takes the whole vocabulary. Where the model is small the output projection is half of a step.
    The losses of training that are recorded are of the sample, those of validation of the whole."""
    distillation: DistillationSection = field(default_factory=DistillationSection)
    """A teacher beside the labels."""
    optimizer: OptimizerSection = field(default_factory=OptimizerSection)
    """The optimizer."""
    schedule: ScheduleSection = field(default_factory=ScheduleSection)
    """Steps, checkpoints, validations."""
    parallel: ParallelSection = field(default_factory=ParallelSection)
    """The loop, and how ranks share the work."""
    precision: Precision = "float32"
    """Type of the matrix products; weights and Adam's moments are float32."""
    activation_checkpointing: bool = False
    """Keep only the inputs of layers and compute them again for the gradient: a third more work,
    and a fraction of the memory that a micro-batch takes."""
    device: str = "auto"
    """`auto` is the GPU of this rank where there is one; or `cpu`, `cuda`."""
    seed: int = 2
    """Seed of the initial weights and of dropout."""

    def faults(self) -> Iterator[str]:
        """Yield what cannot work together."""
        yield from range_faults(self, "label_smoothing", least=0, below=1)
        yield from range_faults(self, "softmax_negatives", least=0)
        if self.softmax_negatives and self.distillation.teacher is not None:
            yield "softmax_negatives leaves out what distillation.teacher tells of: set it to 0"
        if self.parallel.experts and self.model.resolve(vocabulary_size=10).num_experts == 0:
            yield "parallel.experts: true needs a model with experts"
        if self.lexicon.pivot is not None and self.model.initial is not None:
            yield "lexicon.pivot gives first embeddings, model.initial has its own: leave one out"
        if self.optimizer.cool_down_steps > self.schedule.steps:
            yield "optimizer.cool_down_steps is above schedule.steps"
