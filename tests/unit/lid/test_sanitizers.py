"""The detector's kernel under AddressSanitizer and UBSan, with a seeded corpus of mutations."""

from ast import literal_eval
from pathlib import Path

import pytest

MUTATIONS = 2000


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_mutated_calls_are_answered_or_refused(sanitizers, model_paths, tmp_path) -> None:
    library = sanitizers.build("lid._kernel", tmp_path)
    program = Path(__file__).with_name("fuzz_program.py")
    said = sanitizers.run(program, library, 1, MUTATIONS, *model_paths.values(), timeout_s=500)
    outcomes = literal_eval(said.splitlines()[-1])
    assert sum(outcomes.values()) == MUTATIONS
    assert min(outcomes["answered"], outcomes["refused"]) > MUTATIONS // 4
