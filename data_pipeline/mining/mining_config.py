"""The configurations of `data mine`, `data train-encoder` and `data xsim`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from data_pipeline.data_config import EvaluationConfig
from nllb.config.corpus import CorpusSection
from nllb.config.schema import (
    FilePath,
    Fraction,
    FractionBelowOne,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    RenamedKey,
    RunConfig,
    Section,
    Text,
    one_in,
    repeated,
)
from nllb.io.paths import is_plain_name
from nllb.languages import Language, parse_language

Margin = Literal["ratio", "distance", "absolute"]
Retrieval = Literal["forward", "backward", "intersect", "max"]
Precision = Literal["float32", "bfloat16"]
ENGLISH = parse_language("eng_Latn")


class MonolingualTextConfig(Section):
    """Sentences of one language, in which translations are searched for."""

    language: Language
    """Code of the language."""
    path: Text
    """Files under `data_dir`, with * for many: Parquet of `data monolingual`, or text with one
    sentence per line, compressed or not."""


class MinedPairConfig(Section):
    """Two languages between which pairs are mined."""

    source: Language
    """Source language."""
    target: Language
    """Target language."""
    threshold: float | None = None
    """Minimum margin for this pair of languages; null uses the run's, and keeps all pairs of
    documents."""


class MineConfig(RunConfig):
    """A mining run."""

    kind: Literal["mine"]
    """The kind of run."""
    text: tuple[MonolingualTextConfig, ...]
    """The sentences."""
    pairs: tuple[MinedPairConfig, ...]
    """The pairs of languages."""
    data_dir: FilePath = Path(".")
    """Folder that the paths of the text start from."""
    documents: bool = False
    """Treat each file as a document in order, and align documents whose paths differ only in their
    codes sentence by sentence. Of the keys below, only `encoder` and the thresholds of the pairs
    are used then."""
    name: Text = "mined"
    """Name of the mined corpus."""
    encoder: Text = "default"
    """default, pretrained, static, the folder of an encoder of your own, a LASER checkpoint, or
    hub:NAME."""
    dtype: Precision = "float32"
    """Type that a LASER model computes in: float32, or bfloat16, which is faster on processors that
    support it."""
    neighbours: PositiveInt = 16
    """Neighbours of each sentence, for candidates and for the margin."""
    margin: Margin = "ratio"
    """ratio, distance or absolute."""
    retrieval: Retrieval = "max"
    """forward, backward, intersect, or max: one to one, the best first."""
    threshold: float | None = None
    """Minimum margin of a pair of sentences; null uses the threshold that was calibrated for the
    encoder."""
    index: Text = "auto"
    """exact, the name of a FAISS index such as IVF4096,SQ8, or auto: by the number of sentences."""
    probes: PositiveInt = 64
    """Cells of an IVF index that are searched."""
    block_sentences: PositiveInt = 50_000
    """Sentences in one block, the unit of work and of resuming."""

    def cross_field_errors(self) -> Iterator[str]:
        """Yield pairs without text."""
        known = {section.language.code for section in self.text}
        for pair in self.pairs:
            for code in (pair.source.code, pair.target.code):
                if code not in known:
                    listed = ", ".join(sorted(known)) or "none"
                    yield f"pairs: no text of {code}; `text` has: {listed}"
            if pair.source == pair.target:
                yield f"pairs: {pair.source.code} is paired with itself"
        if not is_plain_name(self.name):
            yield f"name: {self.name!r}: use letters, digits, '.', '_' and '-', not '.' or '..'"


class XsimConfig(RunConfig):
    """A measurement of a sentence encoder on a line-aligned set."""

    kind: Literal["xsim"]
    """The kind of run."""
    directory: FilePath
    """Folder of FLORES in any layout, or of line-aligned files CODE."""
    split: Text = "devtest"
    """Split, for FLORES."""
    encoder: Text = "default"
    """default, pretrained, static, the folder of an encoder of your own, a LASER checkpoint, or
    hub:NAME."""
    pivot: Language
    """The language that the others are compared with."""
    languages: tuple[Language, ...] = ()
    """Languages to compare; empty compares all that the set has."""
    margin: Margin = "ratio"
    """ratio, distance or absolute."""
    neighbours: PositiveInt = 4
    """Neighbours over which the margin averages."""
    plus: bool = False
    """Also measure xsim++, with distractors among the lines of the pivot, which must be English."""

    def cross_field_errors(self) -> Iterator[str]:
        """Yield what cannot be measured."""
        if self.plus and self.pivot.code != "eng_Latn":
            yield f"plus: distractors exist in English only, but pivot is {self.pivot.code}"


class TextSourceConfig(CorpusSection):
    """One corpus of sentence pairs to train on."""

    renamed_keys: ClassVar = {
        "most_pairs": "max_pairs",
        "held_out_every": RenamedKey("held_out_fraction", one_in),
    }

    pivots: tuple[Language, ...] = (ENGLISH,)
    """Languages that every other language is paired with; in corpora of pairs, empty reads all
    pairs."""
    languages: tuple[Language, ...] = ()
    """Read only these languages, and the pivots; empty reads all."""
    max_pairs: PositiveInt = 1 << 30
    """Maximum number of sentence pairs of one pair of languages."""
    interface: bool = False
    """Interface messages: markup is resolved, placeholders and copies are skipped."""
    held_out_fraction: FractionBelowOne = 0.0
    """Fraction of the pairs that is held out, chosen by the hash of the English side."""
    held_out_from_article: NonNegativeInt = 0
    """Hold out keys `ARTICLE.pN` from this article on; 0 holds out none."""


class TableConfig(Section):
    """Size of a static encoder."""

    dimension: Annotated[int, Field(ge=8)] = 256
    """Length of a vector; a multiple of 8."""
    rows: PositiveInt = 112_000
    """Rows of the table."""
    owned_rows: PositiveInt = 100_000
    """Rows that belong to one frequent feature each; the other features share the rest."""
    bits: Literal[1, 2, 4] = 2
    """Bits of each value in the file."""

    def cross_field_errors(self) -> Iterator[str]:
        """Yield sizes that do not fit together."""
        if self.owned_rows >= self.rows:
            yield f"owned_rows: must be below rows ({self.rows}), got {self.owned_rows}"
        if self.dimension % 8:
            yield f"dimension: must be a multiple of 8, got {self.dimension}"


class ContrastiveConfig(Section):
    """Contrastive training: the translations of the other pairs in a batch are the negatives."""

    renamed_keys: ClassVar = {
        "join_part": "join_fraction",
        "plain_part": "plain_fraction",
        "round_from": "quantize_from",
    }

    batch_pairs: PositiveInt = 1024
    """Pairs in a batch."""
    steps: PositiveInt = 4000
    """Number of batches; the learning rate falls to zero over them."""
    learning_rate: PositiveFloat = 0.03
    """Learning rate of row-wise Adagrad."""
    feature_dropout: FractionBelowOne = 0.35
    """Fraction of the features of each sentence that is dropped, resampled each time."""
    join_fraction: FractionBelowOne = 0.3
    """Fraction of the pairs that are joined with another pair of the same languages, for longer
    text."""
    plain_fraction: FractionBelowOne = 0.0
    """Fraction of the steps, at the start, without dropout and without joining."""
    quantize_from: FractionBelowOne = 0.6
    """Fraction of the steps after which the rows are used as they will be stored, quantised."""
    scale: PositiveFloat = 20.0
    """Initial factor of the cosines before the softmax; it is trained."""
    evaluate_every: PositiveInt = 300
    """Steps between two measurements on held-out pairs; the best table is kept."""


class DistillationConfig(Section):
    """Training of a student to reproduce the teacher's vector of the English side."""

    teacher: Text = "default"
    """default, pretrained, static, the folder of an encoder of your own, a LASER checkpoint, or
    hub:NAME."""
    student: Literal["static", "transformer", "pretrained"] = "static"
    """A table of features, a transformer over SentencePiece pieces, or the pretrained encoder,
    whose layers are tuned; the teacher must be of the same kind for static and pretrained."""
    languages: tuple[Language, ...] = ()
    """Languages to learn; empty uses all that the corpora have."""
    distil_weight: NonNegativeFloat = 1.0
    """Weight of 1 - cosine to the teacher's vector of the English side."""
    self_weight: NonNegativeFloat = 1.0
    """Weight of 1 - cosine of the student's own vector of the English side."""
    masked_weight: NonNegativeFloat = 0.09
    """Weight of the prediction of masked pieces; transformers only."""
    temperature: PositiveFloat = 11.0
    """Languages are sampled in proportion to their pairs to the power of 1 / temperature."""
    epochs: PositiveInt = 10
    """Passes over the pairs."""
    epoch_pairs: PositiveInt | None = None
    """Pairs of an epoch, after which training can resume; null uses as many as there are."""
    batch_tokens: PositiveInt = 2000
    """Pieces in a batch; a static student uses 256 pairs."""
    learning_rate: PositiveFloat = 1e-4
    """Maximum learning rate of Adam; for a static student, of row-wise Adagrad."""
    warmup_steps: NonNegativeInt = 1000
    """Steps until the maximum is reached; not for static students."""
    clip: PositiveFloat = 5.0
    """Maximum norm of a gradient; not for static students."""
    dropout: FractionBelowOne = 0.3
    """Dropout in training: of a transformer's values, or of the features of a static student."""
    bits: Literal[1, 2, 4] = 4
    """Bits of each value in the file; static students only."""
    layers: PositiveInt = 12
    """Layers of a transformer."""
    feed_forward: PositiveInt = 2048
    """Inner width of a transformer."""
    heads: PositiveInt = 4
    """Attention heads of a transformer."""
    vocabulary: PositiveInt = 8000
    """Pieces of the student's own SentencePiece model; transformers only."""


class EncoderTrainingConfig(RunConfig):
    """A run of encoder training: contrastive from random values, or from a teacher."""

    renamed_keys: ClassVar = {
        "part_without_pivot": "fraction_without_pivot",
        "shield": "decontamination",
    }

    kind: Literal["encoder"]
    """The kind of run."""
    sources: tuple[TextSourceConfig, ...]
    """Corpora of pairs."""
    decontamination: tuple[EvaluationConfig, ...]
    """Evaluation sets whose sentences are removed by hash on both sides; write an empty list to
    use none."""
    data_dir: FilePath = Path(".")
    """Folder that the corpora's paths start from."""
    name: Text = "encoder"
    """Name of the encoder, for its card."""
    licence: Text = "not stated"
    """Licence of the trained file."""
    pivot: Language = ENGLISH
    """Language that is one side of every held-out pair."""
    fraction_without_pivot: Fraction = 1.0
    """Fraction of the pairs without the pivot that is used."""
    seed: NonNegativeInt = 0
    """Seed of all random choices."""
    table: TableConfig = TableConfig()
    """Size of a static encoder."""
    contrastive: ContrastiveConfig = ContrastiveConfig()
    """Training without a teacher."""
    distillation: DistillationConfig | None = None
    """Training from a teacher; null trains without one."""

    def cross_field_errors(self) -> Iterator[str]:
        """Yield names that are given twice."""
        for name in repeated(source.name for source in self.sources):
            yield f"sources: the name {name!r} is given twice"
        if not is_plain_name(self.name):
            yield (
                f"name: {self.name!r} becomes the name of files: use letters, digits, '.', '_' and "
                "'-', and not '.' or '..' alone"
            )
