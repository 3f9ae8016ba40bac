"""The static encoder: its file, its vectors, damage; and the one that ships."""

from pathlib import Path

import numpy
import pytest
import torch

from data_pipeline.mining.encoder_training.training_hashes import overlap, read_hashes
from data_pipeline.mining.encoders.load_encoder import STATIC, load_encoder
from data_pipeline.mining.encoders.static_encoder import (
    FILE_NAME,
    FeatureTable,
    pack,
    rounded,
    unpack,
)
from data_pipeline.mining.xsim import mean_errors, measure
from nllb.errors import CheckpointError
from nllb.io.benchmarks import load_flores
from nllb.io.text import read_lines

DEVELOPMENT = (
    "fra_Latn deu_Latn spa_Latn rus_Cyrl arb_Arab hin_Deva fin_Latn tur_Latn swh_Latn ind_Latn "
    "zho_Hans jpn_Jpan mri_Latn lij_Latn ban_Latn"
).split()


@pytest.mark.parametrize(("bits", "cosine"), [(1, 0.65), (2, 0.88), (4, 0.98)])
def test_few_bits_keep_the_directions(bits: int, cosine: float) -> None:
    draw = torch.Generator().manual_seed(0)
    table = torch.randn(500, 64, generator=draw) * torch.rand(500, 1, generator=draw) * 3
    table[7] = 0
    again = unpack(*pack(table, bits), bits)
    cosines = torch.nn.functional.cosine_similarity(table, again)
    assert cosines[torch.arange(500) != 7].min() > cosine
    # The step is written in 16 bits, so a value on an edge may fall to the other side.
    assert (again - rounded(table, bits)).norm() < 0.02 * table.norm()
    assert again[7].abs().max() < 1e-6


def test_every_feature_has_a_row_and_owners_have_their_own() -> None:
    owners = numpy.array([5, 900, 16_000_000], numpy.int32)
    rows = FeatureTable(owners=owners, num_rows=1000).rows()
    assert rows[owners].tolist() == [0, 1, 2]
    assert rows.min() == 0
    assert rows.max() == 999
    assert (rows < 3).sum() == 3


def test_vectors_do_not_depend_on_the_batch(random_encoder_dir: Path) -> None:
    encoder = load_encoder(random_encoder_dir)
    sentences = ["One house.", "", "Deux maisons !", "三軒の家"]
    together = encoder.encode(sentences, "")
    assert together.shape == (4, 64)
    assert not together[1].any()
    for row, sentence in zip(together, sentences, strict=True):
        assert (encoder.encode([sentence], "")[0] == row).all()
    assert encoder.encode([], "").shape == (0, 64)


def test_damaged_files_are_refused(random_encoder_dir: Path, tmp_path: Path) -> None:
    whole = (random_encoder_dir / FILE_NAME).read_bytes()
    (tmp_path / FILE_NAME).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="damaged or truncated"):
        load_encoder(tmp_path)
    (tmp_path / FILE_NAME).write_bytes(whole.replace(b"nllb-static-encoder-1", b"nllb-static-x"))
    with pytest.raises(CheckpointError):
        load_encoder(tmp_path)
    (tmp_path / FILE_NAME).unlink()
    with pytest.raises(CheckpointError, match=f"does not contain {FILE_NAME}"):
        load_encoder(tmp_path)


def test_the_shipped_file_is_small_and_has_a_card() -> None:
    assert (STATIC / FILE_NAME).stat().st_size <= 8_000_000
    assert (STATIC / "LICENSE").is_file()
    assert (STATIC / "README.md").is_file()
    assert load_encoder("static").dimension == 320


def test_the_shipped_static_encoder_has_not_seen_what_is_scored(data_dir: Path) -> None:
    hashes = read_hashes(STATIC / "training_hashes.bin.zst")
    assert len(hashes) > 900_000
    # The file is what it says: training text is found in it.
    seed = list(read_lines(data_dir / "nllb_seed" / "lij_Latn"))
    assert len(overlap(hashes, seed)) > 0.95 * len(seed)
    flores = load_flores(data_dir)
    for language in flores.languages:
        if flores.path(language).stat().st_size:
            assert overlap(hashes, flores.sentences(language)) == [], language
    for path in sorted((data_dir / "laser_tatoeba").glob("tatoeba.*")):
        assert overlap(hashes, read_lines(path)) == [], path


def test_the_shipped_static_encoder_finds_translations(data_dir: Path) -> None:
    flores = load_flores(data_dir)
    results = measure(load_encoder("static"), flores, DEVELOPMENT, "eng_Latn")
    errors = {result.language: result.forward for result in results}
    assert errors["fra_Latn"] < 0.025
    assert errors["deu_Latn"] < 0.045
    assert errors["lij_Latn"] < 0.04
    assert max(mean_errors(results)) < 0.165
