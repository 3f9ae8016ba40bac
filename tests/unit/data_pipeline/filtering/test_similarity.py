"""The similarity filter against an encoder that tells right from wrong, and what it refuses."""

from collections.abc import Sequence
from pathlib import Path

import numpy
import polars
import pytest

from data_pipeline.data_config import FilterConfig, SimilarityFilterConfig
from data_pipeline.filtering.filter_stage import FilterChain
from data_pipeline.filtering.filters import Pair
from data_pipeline.filtering.similarity import SimilarityFilter
from data_pipeline.mining.encoders.encoder import Vectors
from data_pipeline.mining.encoders.static_encoder import save_encoder
from nllb.errors import ConfigError, DataError
from nllb.io.text import read_lines

PAIR = Pair(source="eng_Latn", target="fra_Latn", corpus="own")


class LengthEncoder:
    """Encodes the length of a text as an angle; counts what it encodes."""

    name, key, dimension = "length", "k", 2

    def __init__(self, spoil: str = "") -> None:
        self.spoil, self.encoded = spoil, 0

    def encode(self, sentences: Sequence[str], language: str) -> Vectors:
        self.encoded += len(sentences)
        angles = numpy.array([len(sentence) / 10 for sentence in sentences])
        vectors = numpy.stack([numpy.cos(angles), numpy.sin(angles)], axis=1).astype(numpy.float32)
        if self.spoil == "nan":
            vectors[0, 0] = numpy.nan
        return vectors[:, :1] if self.spoil == "shape" else vectors


def rows(*pairs: tuple[str, str]) -> polars.DataFrame:
    sources, targets = zip(*pairs, strict=True)
    return polars.DataFrame({"source": sources, "target": targets})


def test_lines_below_the_threshold_are_rejected() -> None:
    encoder = LengthEncoder()
    config = SimilarityFilterConfig(threshold=0.9)
    one = SimilarityFilter(config, encoder)
    frame = rows(("a" * 5, "b" * 5), ("a" * 5, "b" * 9), ("a" * 5, "b" * 15))
    scores = one.measure(frame, PAIR)
    assert scores["similarity"].to_list() == pytest.approx([1.0, 0.9211, 0.5403], abs=1e-4)
    assert encoder.encoded == 4, "equal texts are encoded once"
    ((reason, rejects),) = one.judge({}, PAIR)
    assert reason == "similarity"
    assert scores.select(rejects).to_series().to_list() == [False, False, True]


@pytest.mark.parametrize(("spoil", "message"), [("nan", "NaN"), ("shape", r"shape \(1, 1\)")])
def test_bad_vectors_are_errors(spoil: str, message: str) -> None:
    one = SimilarityFilter(SimilarityFilterConfig(threshold=0.5), LengthEncoder(spoil))
    with pytest.raises(DataError, match=message):
        one.measure(rows(("a", "b")), PAIR)


def test_an_encoder_without_calibration_needs_a_threshold(tmp_path: Path) -> None:
    import torch

    table = torch.randn(300, 16, generator=torch.Generator().manual_seed(0))
    save_encoder(tmp_path, table=table, owners=numpy.arange(5, dtype=numpy.int32), card={})
    config = SimilarityFilterConfig(encoder=str(tmp_path))
    with pytest.raises(ConfigError, match=r"not calibrated; set `filter\.similarity\.threshold`"):
        SimilarityFilter(config)
    SimilarityFilter(SimilarityFilterConfig(encoder=str(tmp_path), threshold=0.1))


def test_the_shipped_encoder_separates_translations_from_shuffled_lines(data_dir: Path) -> None:
    folder = data_dir / "laser_tatoeba"
    french = list(read_lines(folder / "tatoeba.fra-eng.fra"))[:300]
    english = list(read_lines(folder / "tatoeba.fra-eng.eng"))[:300]
    shuffled = [*english[7:], *english[:7]]
    frame = rows(*zip([*english, *shuffled], [*french, *french], strict=True))
    frame = frame.with_columns(margin=polars.lit(None, dtype=polars.Float32))
    before = polars.Series("reason", [None] * len(frame), dtype=polars.String)
    chain = FilterChain(FilterConfig(preset="reference", similarity=SimilarityFilterConfig()))
    reasons = chain.run(frame, PAIR, before)[1].to_list()
    assert reasons[:300].count("similarity") < 0.06 * 300
    # The threshold keeps nearly all translations, so that some similar sentences pass.
    assert reasons[300:].count("similarity") > 0.75 * 300
    cosines = SimilarityFilter(SimilarityFilterConfig()).measure(frame, PAIR)["similarity"]
    right, wrong = cosines[:300].to_numpy(), cosines[300:].to_numpy()
    assert (right[:, None] > wrong).mean() > 0.99


def test_languages_that_the_encoder_does_not_know_are_never_rejected() -> None:
    encoder = LengthEncoder()
    encoder.languages = frozenset({"eng_Latn", "fra_Latn"})
    one = SimilarityFilter(SimilarityFilterConfig(threshold=0.9), encoder)
    assert [reason for reason, _ in one.judge({}, PAIR)] == ["similarity"]
    assert one.judge({}, Pair(source="eng_Latn", target="kab_Latn", corpus="own")) == []
