"""The configurations of `data mine`, `data train-encoder` and `data xsim`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data_pipeline.data_config import EvaluationConfig
from nllb.config import range_faults
from nllb.io.corpora import Layout
from nllb.languages import Language

Margin = Literal["ratio", "distance", "absolute"]
Retrieval = Literal["forward", "backward", "intersect", "max"]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True, slots=True)
class MonolingualTextConfig:
    """Sentences of one language to mine in."""

    language: Language
    """Code of the language."""
    path: str
    """Files under `data_dir`, with * for many: Parquet of `data monolingual`, or text, a sentence a
    line, compressed or not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MinedPairConfig:
    """Two languages to mine between."""

    source: Language
    """Source language."""
    target: Language
    """Target language."""
    threshold: float | None = None
    """Least margin of this pair; null takes the run's, and all pairs of documents."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MineConfig:
    """A mining run."""

    kind: Literal["mine"]
    """The sort of run."""
    text: tuple[MonolingualTextConfig, ...]
    """The sentences."""
    pairs: tuple[MinedPairConfig, ...]
    """The pairs of languages."""
    data_dir: Path = Path(".")
    """Folder that the paths of the text start from."""
    documents: bool = False
    """Each file is a document in order, and those whose paths differ in the codes only are aligned
    sentence by sentence; of what follows the encoder and the thresholds of the pairs count."""
    name: str = "mined"
    """Name of the mined corpus."""
    encoder: str = "default"
    """default, the folder of an own encoder, a LASER checkpoint, or hub:NAME."""
    dtype: Precision = "float32"
    """What a LASER model computes in: float32, or bfloat16, faster where the processor has it."""
    neighbours: int = 16
    """Neighbours of each sentence, for candidates and for the margin."""
    margin: Margin = "ratio"
    """ratio, distance or absolute."""
    retrieval: Retrieval = "max"
    """forward, backward, intersect, or max: one to one, the best first."""
    threshold: float = 1.06
    """Least margin of a pair."""
    index: str = "auto"
    """exact, the name of a FAISS index such as IVF4096,SQ8, or auto: by the number of sentences."""
    probes: int = 64
    """Cells of an IVF index that are searched."""
    block_sentences: int = 50_000
    """Sentences in one block, the unit of work and of resuming."""

    def faults(self) -> Iterator[str]:
        """Yield pairs without text and numbers out of range."""
        known = {section.language.code for section in self.text}
        for pair in self.pairs:
            for code in (pair.source.code, pair.target.code):
                if code not in known:
                    yield f"pairs: no text of {code}; text of {', '.join(sorted(known)) or 'none'}"
            if pair.source == pair.target:
                yield f"pairs: {pair.source.code} with itself"
        yield from range_faults(self, "neighbours", "probes", "block_sentences", least=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class XsimConfig:
    """A measurement of a sentence encoder on a line-aligned set."""

    kind: Literal["xsim"]
    """The sort of run."""
    directory: Path
    """Folder of FLORES in any layout, or of line-aligned files CODE."""
    split: str = "devtest"
    """Split, for FLORES."""
    encoder: str = "default"
    """default, the folder of an own encoder, a LASER checkpoint, or hub:NAME."""
    pivot: Language
    """The language that the others are compared with."""
    languages: tuple[Language, ...] = ()
    """Languages to compare; none takes all that the set has."""
    margin: Margin = "ratio"
    """ratio, distance or absolute."""
    neighbours: int = 4
    """Neighbours that the margin takes the mean of."""
    plus: bool = False
    """Measure xsim++ too: with distractors among the lines of the pivot, which must be English."""

    def faults(self) -> Iterator[str]:
        """Yield what cannot be measured."""
        yield from range_faults(self, "neighbours", least=1)
        if self.plus and self.pivot.code != "eng_Latn":
            yield f"plus: distractors are made in English only, pivot is {self.pivot.code}"


@dataclass(frozen=True, kw_only=True, slots=True)
class TextSourceConfig:
    """One corpus of sentence pairs to train on."""

    name: str
    """Name in reports and on the card."""
    path: Path
    """Folder, under `data_dir`."""
    layout: Layout | None = None
    """Layout of the folder, where its name does not tell."""
    licence: str = "not stated"
    """Licence of the text, for the card."""
    pivots: tuple[str, ...] = ("eng_Latn",)
    """Languages that every other is paired with; in corpora of pairs none takes all pairs."""
    languages: tuple[Language, ...] = ()
    """Only these languages, beside the pivots; none takes all."""
    most_pairs: int = 1 << 30
    """Most pairs of one pair of languages."""
    interface: bool = False
    """Interface messages: markup is resolved, placeholders and copies are left out."""
    held_out_every: int = 0
    """Hold out the pairs whose English side has a hash divisible by this; 0 holds out none."""
    held_out_from_article: int = 0
    """Hold out keys `ARTICLE.pN` from this article on; 0 holds out none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TableConfig:
    """Size of a static encoder."""

    dimension: int = 256
    """Length of a vector; a multiple of 8."""
    rows: int = 112_000
    """Rows of the table."""
    owned_rows: int = 100_000
    """Rows that belong to one frequent feature each; the other features share the rest."""
    bits: Literal[1, 2, 4] = 2
    """Bits of each value as it is written."""

    def faults(self) -> Iterator[str]:
        """Yield sizes that do not go together."""
        if not 0 < self.owned_rows < self.rows:
            yield f"owned_rows: between 1 and rows ({self.rows}), got {self.owned_rows}"
        if self.dimension < 8 or self.dimension % 8:
            yield f"dimension: a multiple of 8, got {self.dimension}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ContrastiveConfig:
    """Training with the translations of the other sentences of a batch as wrong answers."""

    batch_pairs: int = 1024
    """Pairs in a batch."""
    steps: int = 4000
    """Batches in all; the learning rate falls to zero over them."""
    learning_rate: float = 0.03
    """Step of row-wise Adagrad."""
    feature_dropout: float = 0.35
    """Part of the features of each sentence that is left out, drawn anew each time."""
    join_part: float = 0.3
    """Part of the pairs that are joined with another of the same languages, as longer text."""
    plain_part: float = 0.0
    """Part of the steps, at the start, in which nothing is left out and nothing joined."""
    round_from: float = 0.6
    """Part of the steps after which the rows are summed as they will be written, in few bits."""
    scale: float = 20.0
    """Cosines are multiplied by this before the softmax; trained from there on."""
    evaluate_every: int = 300
    """Steps between two measurements on held-out pairs; the best table is kept."""

    def faults(self) -> Iterator[str]:
        """Yield rates that are none and empty batches."""
        yield from range_faults(
            self, "feature_dropout", "join_part", "plain_part", "round_from", least=0, below=1
        )
        yield from range_faults(self, "batch_pairs", "evaluate_every", least=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillationConfig:
    """Training of a student to give the teacher's vector of the English side."""

    teacher: str = "default"
    """default, the folder of an own encoder, a LASER checkpoint, or hub:NAME."""
    student: Literal["static", "transformer"] = "static"
    """A table of features, or a transformer over SentencePiece pieces."""
    languages: tuple[Language, ...] = ()
    """Languages to learn; none takes all that the sources have."""
    distil_weight: float = 1.0
    """Weight of 1 - cosine to the teacher's vector of the English side."""
    self_weight: float = 1.0
    """Weight of 1 - cosine of the student's own vector of the English side."""
    masked_weight: float = 0.09
    """Weight of the prediction of masked pieces; transformers only."""
    temperature: float = 11.0
    """Languages are drawn in proportion to their pairs to the power of 1 / temperature."""
    epochs: int = 10
    """Passes over the pairs."""
    batch_tokens: int = 2000
    """Pieces in a batch; transformers only, a static student has 256 pairs."""
    learning_rate: float = 1e-4
    """Largest step of Adam; of a static student, of row-wise Adagrad."""
    warmup_steps: int = 1000
    """Steps until the largest step is reached; transformers only."""
    clip: float = 5.0
    """Largest norm of a gradient; transformers only."""
    dropout: float = 0.3
    """Part of the values, of a static student of the features, that are dropped in training."""
    bits: Literal[1, 2, 4] = 4
    """Bits of each value as it is written; static only."""
    layers: int = 12
    """Layers of a transformer."""
    feed_forward: int = 2048
    """Inner width of a transformer."""
    heads: int = 4
    """Attention heads of a transformer."""
    vocabulary: int = 8000
    """Pieces of the student's own SentencePiece model; transformers only."""

    def faults(self) -> Iterator[str]:
        """Yield numbers out of range."""
        yield from range_faults(self, "epochs", "batch_tokens", "layers", "heads", least=1)
        yield from range_faults(self, "dropout", least=0, below=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderTrainingConfig:
    """A run of encoder training: contrastive from nothing, or from a teacher."""

    kind: Literal["encoder"]
    """The sort of run."""
    sources: tuple[TextSourceConfig, ...]
    """Corpora of pairs."""
    shield: tuple[EvaluationConfig, ...]
    """Evaluation sets, kept out by hash on both sides; an empty list must be written out."""
    data_dir: Path = Path(".")
    """Folder that the corpora's paths start from."""
    name: str = "encoder"
    """Name of the encoder, for its card."""
    licence: str = "not stated"
    """Licence of the trained file."""
    pivot: str = "eng_Latn"
    """Language that held-out pairs have on one side."""
    part_without_pivot: float = 1.0
    """Part of the pairs without the pivot that is used."""
    seed: int = 0
    """Seed of everything drawn."""
    table: TableConfig = TableConfig()
    """Size of a static encoder."""
    contrastive: ContrastiveConfig = ContrastiveConfig()
    """How it is trained where no teacher is given."""
    distillation: DistillationConfig | None = None
    """Training from a teacher; null trains from nothing."""
