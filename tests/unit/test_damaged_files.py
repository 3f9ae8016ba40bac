"""A thousand damaged files of every kind: each is refused with an error that a user can read."""

import random
import shutil
import traceback
from pathlib import Path

import pytest

from nllb.errors import NllbError
from tests.damage import damage
from tests.untrusted_samples import Sample, make_samples

NUM_FILES = 1000
NUM_PARTS = 4


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    return make_samples(tmp_path_factory.mktemp("samples"))


def test_whole_samples_can_be_opened(samples: list[Sample]) -> None:
    for sample in samples:
        sample.open(sample.folder)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(NUM_PARTS))
def test_damaged_files_never_end_in_a_traceback(
    samples: list[Sample], tmp_path: Path, part: int
) -> None:
    found = []
    for number in range(part, NUM_FILES, NUM_PARTS):
        draw = random.Random(number)
        sample = samples[number % len(samples)]
        folder = tmp_path / str(number)
        shutil.copytree(sample.folder, folder)
        path = draw.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
        way = damage(path, draw)
        try:
            sample.open(folder)
        except NllbError as error:
            assert len(str(error)) < 2000, (number, sample.name, path.name, str(error)[:200])
        except Exception:
            what = f"{number}: {sample.name}, {path.name}, {way}"
            found.append(f"{what}\n{traceback.format_exc(limit=-4)}")
        shutil.rmtree(folder)
    assert not found, f"{len(found)} tracebacks:\n" + "\n".join(found[:20])
