import struct
from pathlib import Path

import fasttext
import numpy as np
import pytest

from lid.fasttext_model import read_fasttext
from nllb.errors import CheckpointError


@pytest.mark.parametrize("kind", ["bin", "ftz"])
def test_matches_the_fasttext_package(model_paths: dict[str, Path], kind: str) -> None:
    model = read_fasttext(model_paths[kind])
    theirs = fasttext.load_model(str(model_paths[kind]))
    assert [f"__label__{label}" for label in model.labels] == theirs.get_labels()
    assert [word.decode() for word in model.words] == theirs.get_words()
    assert model.dim == theirs.get_dimension()
    assert model.quantised == (kind == "ftz")
    word = model.words[1].decode()
    row = model.rows[theirs.get_word_id(word)]
    assert row.shape == (8,) and np.isfinite(model.rows).all()
    if kind == "bin":
        np.testing.assert_array_equal(model.rows, theirs.get_input_matrix())
        np.testing.assert_array_equal(model.output, theirs.get_output_matrix())
        assert model.pruned is None
    else:
        assert model.pruned is not None
        assert (model.pruned >= 0).sum() == len(model.rows) - len(model.words)


@pytest.mark.parametrize("kind", ["bin", "ftz"])
@pytest.mark.parametrize("part", [0.0, 0.0001, 0.001, 0.02, 0.3, 0.9, 0.9999])
def test_error_names_the_truncated_file(
    model_paths: dict[str, Path], tmp_path: Path, kind: str, part: float
) -> None:
    whole = model_paths[kind].read_bytes()
    cut = tmp_path / f"cut.{kind}"
    cut.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(CheckpointError, match=r"cut\.(bin|ftz)"):
        read_fasttext(cut)


def test_other_files_are_rejected(tmp_path: Path) -> None:
    other = tmp_path / "other.bin"
    other.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(CheckpointError, match="not a fastText model"):
        read_fasttext(other)
    with pytest.raises(CheckpointError, match=r"cannot read.*missing\.ftz"):
        read_fasttext(tmp_path / "missing.ftz")
    with pytest.raises(CheckpointError, match="cannot read"):
        read_fasttext(tmp_path)


def test_word_vectors_and_unknown_versions_are_rejected(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("one two three four five six seven eight\n" * 20, encoding="utf-8")
    vectors = tmp_path / "vectors.bin"
    fasttext.train_unsupervised(
        str(text), dim=4, minCount=1, epoch=1, bucket=100, thread=1, verbose=0
    ).save_model(str(vectors))
    with pytest.raises(CheckpointError, match="word vectors"):
        read_fasttext(vectors)
    future = tmp_path / "future.bin"
    future.write_bytes(struct.pack("<ii", 793712314, 99) + bytes(200))
    with pytest.raises(CheckpointError, match="format 99"):
        read_fasttext(future)


_BUCKET, _MINN, _WORD_NGRAMS = 8 + 4 * 8, 8 + 4 * 9, 8 + 4 * 5


@pytest.mark.parametrize("kind", ["bin", "ftz"])
@pytest.mark.parametrize(
    ("place", "value"),
    [
        (_BUCKET, (1 << 31) - 1),
        (_BUCKET, -1),
        (_MINN, -1),
        (_MINN, 1 << 20),
        (_MINN + 4, 1 << 30),
        (_WORD_NGRAMS, 0),
        (_WORD_NGRAMS, 1 << 30),
        (8, 0),
        (8, 1 << 30),
        (72, (1 << 31) - 1),
        (68, (1 << 31) - 1),
    ],
)
def test_inconsistent_sizes_are_rejected(
    model_paths: dict[str, Path], tmp_path: Path, kind: str, place: int, value: int
) -> None:
    data = bytearray(model_paths[kind].read_bytes())
    struct.pack_into("<i", data, place, value)
    path = tmp_path / f"bad.{kind}"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"bad\.(bin|ftz)"):
        read_fasttext(path)


@pytest.mark.parametrize("kind", ["bin", "ftz"])
def test_sampling_threshold_is_ignored(
    model_paths: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    data = bytearray(model_paths[kind].read_bytes())
    struct.pack_into("<d", data, 8 + 4 * 12, float("nan"))
    path = tmp_path / f"nan.{kind}"
    path.write_bytes(data)
    assert read_fasttext(path).labels == read_fasttext(model_paths[kind]).labels


def test_non_finite_quantised_values_are_rejected(
    model_paths: dict[str, Path], tmp_path: Path
) -> None:
    data = model_paths["ftz"].read_bytes()
    path = tmp_path / "nan.ftz"
    path.write_bytes(data[:-3000] + b"\xff" * 1024 + data[-1976:])
    with pytest.raises(CheckpointError, match=r"nan\.ftz"):
        read_fasttext(path)


def test_small_files_that_decode_to_a_huge_matrix_are_rejected(tmp_path: Path) -> None:
    dim, rows = 200, 400_000
    head = struct.pack("<ii", 793712314, 12)
    head += struct.pack("<12i", dim, 5, 5, 1, 5, 1, 3, 3, 0, 0, 0, 100) + struct.pack("<d", 1e-4)
    head += struct.pack("<3iqq", 1, 0, 1, 1, -1) + b"__label__eng_Latn\0" + struct.pack("<qb", 1, 1)
    matrix = struct.pack("<bqqi", 0, rows, dim, rows) + bytes(rows)
    matrix += struct.pack("<4i", dim, 1, dim, dim) + bytes(4 * 256 * dim)
    output = b"\0" + struct.pack("<qq", 1, dim) + bytes(4 * dim)
    (tmp_path / "bomb.ftz").write_bytes(head + b"\1" + matrix + output)
    with pytest.raises(CheckpointError, match=r"bomb\.ftz: 400,000 rows that decode to 320,"):
        read_fasttext(tmp_path / "bomb.ftz")


def test_error_names_a_git_lfs_pointer(tmp_path: Path) -> None:
    (tmp_path / "model.ftz").write_text("version https://git-lfs.github.com/spec/v1\nsize 9\n")
    with pytest.raises(CheckpointError, match="git-lfs pointer"):
        read_fasttext(tmp_path / "model.ftz")
