"""Calibrated thresholds: chosen on hidden pairs, stored with the encoder, used by mining."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy
import pytest

from data_pipeline.mining.calibration import (
    Calibration,
    OperatingPoint,
    PoolPoint,
    _Ranking,
    best_point,
    calibrate,
    calibration_path,
    find_calibration,
    read_calibration,
    save_calibration,
)
from data_pipeline.mining.encoders.encoder import Vectors
from data_pipeline.mining.encoders.load_encoder import encoder_path, load_encoder
from nllb.errors import DataError


class NoisyEncoder:
    """Both sides of a pair are named alike; the target's vector is the source's with noise."""

    name, key, dimension = "noisy", "k1", 32

    def encode(self, sentences: Sequence[str], language: str) -> Vectors:
        rows = []
        for sentence in sentences:
            number = int(sentence.split()[-1])
            own = numpy.random.default_rng(number).normal(size=self.dimension)
            noise = numpy.random.default_rng((number, len(language))).normal(size=self.dimension)
            rows.append(own + (0.6 * noise if sentence.startswith("to") else 0))
        return numpy.array(rows, numpy.float32).reshape(-1, self.dimension)


def held_out(count: int, first: int = 0) -> list[tuple[str, str]]:
    return [(f"from {number}", f"to {number}") for number in range(first, first + count)]


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    pairs = {"fra_Latn": held_out(400), "deu_Latn": held_out(400, 1000), "lij_Latn": held_out(9)}
    more = {
        "fra_Latn": [f"from {number}" for number in range(2000, 3000)],
        "deu_Latn": [f"from {number}" for number in range(3000, 4000)],
        "eng_Latn": [f"to {number}" for number in range(4000, 5000)],
    }
    return calibrate(NoisyEncoder(), pairs, more, text="numbers", pool_sizes=(300, 900, 90_000))


def test_thresholds_are_calibrated_for_each_margin_and_pool(calibration: Calibration) -> None:
    assert set(calibration.margins) == {
        f"{margin}/{k}" for margin in ("ratio", "distance", "absolute") for k in (4, 16)
    }
    for points in calibration.margins.values():
        assert [(point.sentences, point.languages) for point in points] == [(300, 2), (900, 2)]
        assert all((point.f1 or 0) > 0.85 for point in points)
    assert (calibration.similarity.f1 or 0) > 0.95
    assert 0.2 < calibration.similarity.threshold < 0.8


def test_a_threshold_between_two_pools_lies_between_theirs(calibration: Calibration) -> None:
    small, large = calibration.margins["ratio/4"]
    assert calibration.margin_point("ratio", 4, 10).threshold == small.threshold
    assert calibration.margin_point("ratio", 4, 1e9).threshold == large.threshold
    between = calibration.margin_point("ratio", 4, (300 * 900) ** 0.5).threshold
    assert between == pytest.approx((small.threshold + large.threshold) / 2, abs=1e-3)
    with pytest.raises(DataError, match=r"8 neighbours; calibrated: .*ratio/16, ratio/4"):
        calibration.margin_point("ratio", 8, 1000)


def test_the_best_point_is_exact() -> None:
    ranking = _Ranking(
        numpy.array([9, 8, 7, 6, 5], numpy.float32), numpy.array([1, 1, 0, 1, 0], bool), 3
    )
    point = best_point([ranking])
    assert (point.precision, point.recall) == (0.75, 1.0)
    assert 5 < point.threshold <= 6


def test_a_calibration_is_stored_with_its_encoder(calibration: Calibration, tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    save_calibration(calibration, path)
    encoder = NoisyEncoder()
    assert read_calibration(path, encoder) == calibration
    encoder.key = "k2"
    with pytest.raises(DataError, match="made for another version of the encoder"):
        read_calibration(path, encoder)
    path.write_text(json.dumps({"format": "other"}))
    with pytest.raises(DataError, match="not a calibration"):
        read_calibration(path, encoder)
    assert calibration_path("hub:LaBSE") is None
    assert calibration_path(tmp_path) == path
    assert calibration_path(tmp_path / "x.pt") == tmp_path / "x.calibration.json"


def test_too_few_pairs_are_an_error() -> None:
    with pytest.raises(DataError, match="no language has 60 held-out pairs"):
        calibrate(NoisyEncoder(), {"fra_Latn": held_out(20)})


def test_a_small_held_out_set_is_one_pool() -> None:
    found = calibrate(NoisyEncoder(), {"fra_Latn": held_out(100)})
    (point,) = found.margins["ratio/4"]
    assert isinstance(point, PoolPoint) and point.sentences == 73


@pytest.mark.parametrize("name", ["default", "static"])
def test_the_shipped_encoders_are_calibrated(name: str) -> None:
    calibration = find_calibration(name, load_encoder(name))
    assert calibration is not None and (encoder_path(name) / "calibration.json").is_file()
    margins = [calibration.margin_point("ratio", 4, size).threshold for size in (650, 3000)]
    assert all(1 < threshold < 1.6 for threshold in margins)
    assert dataclasses.asdict(calibration.similarity).keys() == {
        field.name for field in dataclasses.fields(OperatingPoint)
    }


def test_a_sentence_is_encoded_once() -> None:
    encoded: list[str] = []

    class Counting(NoisyEncoder):
        def encode(self, sentences, language):
            encoded.extend(sentences)
            return super().encode(sentences, language)

    calibrate(Counting(), {"fra_Latn": held_out(700)}, pool_sizes=(100, 200))
    assert len(encoded) == len(set(encoded))
