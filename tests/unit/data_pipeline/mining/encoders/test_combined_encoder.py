"""Vectors side by side; what a combination refuses."""

import json
from pathlib import Path

import numpy
import pytest

from data_pipeline.mining.calibration import find_calibration
from data_pipeline.mining.encoders.combined_encoder import COMBINATION_FILE, CombinedEncoder
from data_pipeline.mining.encoders.load_encoder import COMBINED, load_encoder
from nllb.errors import CheckpointError

TEXTS = ["Where is the station?", "", "Wo ist der Bahnhof?", "The river is deep."]


def write_combination(folder: Path, **fields: object) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / COMBINATION_FILE).write_text(json.dumps(fields), "utf-8")
    return folder


def test_the_default_combines_the_shipped_encoders() -> None:
    encoder = load_encoder()
    assert isinstance(encoder, CombinedEncoder)
    parts = [load_encoder(name) for name in ("pretrained", "static")]
    assert encoder.dimension == sum(part.dimension for part in parts) == 704
    assert encoder.languages == parts[0].languages
    calibration = find_calibration("default", encoder)
    assert calibration is not None and 0 < calibration.similarity.threshold < 1
    vectors = encoder.encode(TEXTS, "")
    assert not vectors[1].any()
    first, second = (part.encode(TEXTS, "") for part in parts)
    assert vectors[:, :384] == pytest.approx(first, abs=1e-5)
    lengths = numpy.linalg.norm(vectors[:, 384:], axis=1)
    assert lengths == pytest.approx([0.8, 0, 0.8, 0.8], abs=1e-5)
    assert vectors[0, 384:] @ second[0] == pytest.approx(0.8 * numpy.linalg.norm(second[0]))
    assert vectors[0] @ vectors[2] > 2 * vectors[0] @ vectors[3]


def test_weights_and_encoders_decide_the_key(tmp_path: Path) -> None:
    keys = {
        load_encoder(
            write_combination(
                tmp_path / f"{number}", name="own", parts=[{"encoder": "static", "weight": weight}]
            )
        ).key
        for number, weight in enumerate((0.5, 0.7))
    }
    assert len(keys) == 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "own", "parts": []}, "parts: "),
        ({"name": "own"}, "parts: Field required"),
        ({"name": "own", "parts": [{"encoder": "static", "weight": 0}]}, r"parts\.0\.weight"),
        ({"name": "own", "parts": [{"encoder": "static"}]}, r"parts\.0\.weight"),
        (
            {"name": "own", "parts": [{"encoder": "default", "weight": 1}]},
            "is a combination itself",
        ),
        ({"name": "own", "parts": [{"encoder": "nowhere", "weight": 1}]}, "no encoder 'nowhere'"),
    ],
)
def test_bad_combinations_are_refused(tmp_path: Path, fields: dict, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_encoder(write_combination(tmp_path / "own", **fields))


def test_the_shipped_combination_is_a_folder_of_the_package() -> None:
    assert (COMBINED / COMBINATION_FILE).is_file()
