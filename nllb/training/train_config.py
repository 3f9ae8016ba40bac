"""The configuration of one training run."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from nllb.config.schema import (
    FilePath,
    Fraction,
    FractionBelowOne,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    RunConfig,
    Section,
    Text,
)
from nllb.model.routing_options import RoutingOptions

from .architecture import ModelSection
from .batches.noise import NoiseConfig

Runner = Literal["fairseq2", "plain"]
DataParallel = Literal["ddp", "fsdp2"]
Precision = Literal["auto", "float32", "bfloat16"]
MetricsService = Literal["tensorboard", "wandb", "mlflow"]


class ReaderConfig(Section):
    """How batches are formed."""

    max_tokens: PositiveInt = 4096
    """Maximum number of tokens on the longer side of a micro-batch, including padding."""
    batches_per_step: PositiveInt = 1
    """Micro-batches per optimizer step, over all ranks."""
    max_length: PositiveInt = 512
    """Maximum length of a side in tokens; longer pairs are skipped and counted."""
    temperature: PositiveFloat | None = None
    """Sampling temperature; null uses the manifest's."""
    by_labels: bool = False
    """Sample directions by their share of the labels instead of the pairs, so that long sentences
    do not crowd out short ones."""
    join: FractionBelowOne = 0.0
    """Probability that a pair is joined with another pair of its direction, so that the model also
    learns texts longer than those of the corpora."""
    seed: NonNegativeInt = 2
    """Seed of the data order."""
    noise: NoiseConfig = NoiseConfig()
    """Noise of denoising sources."""

    def cross_field_errors(self) -> Iterator[str]:
        """Yield contradictory lengths."""
        if self.max_tokens < self.max_length:
            yield (
                f"max_tokens: must be at least max_length ({self.max_length}) to fit one pair, "
                f"got {self.max_tokens}"
            )


class LexiconSection(Section):
    """Initial embeddings from the translations of pieces, counted in the training pairs."""

    renamed_keys: ClassVar = {"least_pairs": "min_pairs"}

    pivot: Text | None = None
    """Language whose pieces define the embeddings of the others; null leaves embeddings random."""
    meaning: Fraction = 0.75
    """Weight of the mean of an embedding's translations into the pivot."""
    language: Fraction = 0.4
    """Weight of the language; the squares of both weights and of the random rest add up to 1."""
    iterations: PositiveInt = 5
    """Iterations of expectation maximisation."""
    min_pairs: PositiveInt = 1000
    """Minimum number of pairs between a language and the pivot for the language to be used."""

    def cross_field_errors(self) -> Iterator[str]:
        """Yield weights that leave nothing for the random part."""
        if self.meaning**2 + self.language**2 > 1:
            yield (
                f"meaning: meaning and language must have squares that add up to at most 1, "
                f"got {self.meaning} and {self.language}"
            )


class OptimizerSection(Section):
    """The optimizer, with linear warm-up and a decay of the learning rate."""

    kind: Literal["adamw", "muon"] = "adamw"
    """`adamw` for all weights, or `muon` for the matrices of the layers and AdamW for the rest."""
    learning_rate: PositiveFloat = 1e-3
    """Maximum learning rate, reached at the end of the warm-up."""
    encoder_rate: PositiveFloat = 0.1
    """Learning rate of a tuned pretrained encoder, relative to that of the decoder."""
    warm_up_steps: NonNegativeInt = 8000
    """Steps of the warm-up."""
    decay: Literal["inverse_sqrt", "constant"] = "inverse_sqrt"
    """The learning rate after the warm-up: NLLB's inverse square root of the step, or `constant`,
    which allows extending a run (the checkpoint before the cool-down is kept for this)."""
    cool_down_steps: NonNegativeInt = 0
    """Number of final steps in which the rate falls linearly to zero; NLLB used none."""
    momentum: FractionBelowOne = 0.95
    """Momentum of Muon."""
    beta_1: FractionBelowOne = 0.9
    """Decay of Adam's first moment."""
    beta_2: FractionBelowOne = 0.98
    """Decay of Adam's second moment."""
    epsilon: PositiveFloat = 1e-6
    """Term that Adam adds to the root of the second moment."""
    weight_decay: NonNegativeFloat = 0.0
    """Weight decay, decoupled from the gradient; with Muon, of its matrices only."""
    clip_norm: PositiveFloat | None = None
    """Maximum norm of the gradient; null does not clip."""


class ScheduleSection(Section):
    """The number of steps, and the intervals between checkpoints, validations and records."""

    steps: PositiveInt = 100_000
    """Total number of optimizer steps."""
    checkpoint_every: PositiveInt = 1000
    """Steps between checkpoints."""
    keep_last: PositiveInt = 2
    """Number of newest checkpoints to keep, in addition to the best one."""
    validate_every: NonNegativeInt = 1000
    """Steps between validations; 0 disables them."""
    validation_pairs: PositiveInt = 200
    """Maximum number of held-out pairs per direction in a validation."""
    translations: NonNegativeInt = 0
    """Held-out pairs per direction that a validation translates and scores; 0 disables this."""
    best_by: Literal["loss", "chrf"] = "loss"
    """Criterion of the best checkpoint: the validation loss, or chrF++ of the translations."""
    patience: NonNegativeInt = 0
    """Number of validations without improvement after which training stops; 0 disables this."""
    log_every: PositiveInt = 50
    """Steps between records of metrics."""

    def cross_field_errors(self) -> Iterator[str]:
        """Yield values that require another value."""
        if self.best_by == "chrf" and not self.translations:
            yield "best_by: chrf requires translations above 0"
        if self.patience and not self.validate_every:
            yield "patience: requires validate_every above 0"


class DistillationSection(Section):
    """Word-level online distillation from a teacher's probabilities of every label."""

    teacher: Text | None = None
    """A model with the same vocabulary: a directory, a hub name or a fairseq checkpoint; null
    disables distillation."""
    temperature: PositiveFloat = 1.0
    """Divides the logits of both models; the gradient is scaled back by its square."""
    alpha: Fraction = 0.5
    """Weight of the teacher in the loss; the weight of the labels is 1 - alpha."""


class ParallelSection(Section):
    """The training loop, and how the ranks divide the work; the launcher sets their number."""

    runner: Runner = "fairseq2"
    """`fairseq2` uses fairseq2's trainer; `plain` is a small loop with the same result."""
    data: DataParallel = "ddp"
    """`ddp` keeps the weights on every rank; `fsdp2` shards them."""
    experts: bool = False
    """Spread the experts over the ranks, with all-to-all exchange, instead of replicating them;
    with `fsdp2`, only the other weights are sharded."""


class TrainConfig(RunConfig):
    """One training run."""

    kind: Literal["train"] = "train"
    """The kind of run."""
    data: FilePath
    """Folder of the manifest that `nllb data run` wrote."""
    model: ModelSection = ModelSection()
    """The model."""
    routing: RoutingOptions = RoutingOptions()
    """How tokens are routed to experts."""
    reader: ReaderConfig = ReaderConfig()
    """How batches are formed."""
    lexicon: LexiconSection = LexiconSection()
    """Initial values of the embeddings."""
    label_smoothing: FractionBelowOne = 0.1
    """Probability mass that is spread over the whole vocabulary."""
    softmax_negatives: NonNegativeInt = 0
    """Number of random negatives for the sampled softmax, in addition to the other labels of a
    micro-batch; 0 uses the whole vocabulary. In a small model the output projection is half of a
    step. Recorded training losses then refer to the sample, validation losses to the vocabulary."""
    distillation: DistillationSection = DistillationSection()
    """Distillation from a teacher."""
    optimizer: OptimizerSection = OptimizerSection()
    """The optimizer."""
    schedule: ScheduleSection = ScheduleSection()
    """Steps, checkpoints, validations."""
    parallel: ParallelSection = ParallelSection()
    """The training loop, and how the ranks divide the work."""
    precision: Precision = "float32"
    """Number type of the matrix products: `float32`, `bfloat16`, or `auto`, which measures both and
    uses the faster one. Weights and Adam's moments are always float32."""
    metrics: tuple[MetricsService, ...] = ("tensorboard",)
    """Other destinations of records than `metrics/*.jsonl`: `tensorboard`, `wandb`, `mlflow`."""
    activation_checkpointing: bool = False
    """Store only the inputs of layers and recompute the rest in the backward pass: a third more
    computation, and a fraction of the memory per micro-batch."""
    device: Text = "auto"
    """`cpu`, `cuda`, or `auto`, which uses this rank's GPU if there is one."""
    seed: NonNegativeInt = 2
    """Seed of the initial weights and of dropout."""

    def cross_field_errors(self) -> Iterator[str]:
        """Yield values that contradict each other."""
        if self.softmax_negatives and self.distillation.teacher is not None:
            yield "softmax_negatives: must be 0 with distillation.teacher, which needs all labels"
        if self.parallel.experts and self.model.resolve(vocabulary_size=10).num_experts == 0:
            yield "parallel.experts: true requires a model with experts"
        if self.lexicon.pivot is not None and self.model.initial is not None:
            yield (
                "lexicon.pivot sets initial embeddings, but model.initial has its own: remove one "
                "of them"
            )
        if self.optimizer.kind == "muon" and self.parallel.data == "fsdp2":
            yield "optimizer.kind: muon requires unsharded matrices; set parallel.data: ddp"
        if self.model.tune_encoder:
            if self.model.encoder is None and self.model.initial is None:
                yield "model.tune_encoder: requires model.encoder, or model.initial with an encoder"
            if self.schedule.translations:
                yield (
                    "schedule.translations: must be 0 with model.tune_encoder, because "
                    "translations would use the original encoder"
                )
        if self.model.encoder is not None:
            yield from self._errors_with_encoder()
        if self.optimizer.cool_down_steps > self.schedule.steps:
            yield (
                "optimizer.cool_down_steps must be at most schedule.steps "
                f"({self.schedule.steps}), got {self.optimizer.cool_down_steps}"
            )

    def _errors_with_encoder(self) -> Iterator[str]:
        """Yield options that cannot be combined with a pretrained encoder."""
        if self.model.initial is not None:
            yield "model.encoder: model.initial already has an encoder; remove one of them"
        if self.lexicon.pivot is not None:
            yield "lexicon.pivot: embeddings are initialised from the pretrained encoder; remove it"
        if self.distillation.teacher is not None:
            yield "distillation.teacher: is not supported with a pretrained encoder"
