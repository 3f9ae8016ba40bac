"""Fuzz the detector's kernel under AddressSanitizer and UBSan with seeded mutations."""

from ast import literal_eval
from pathlib import Path

import pytest

MUTATIONS = 2000


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_mutated_calls_succeed_or_raise_errors(sanitizers, model_paths, tmp_path) -> None:
    library = sanitizers.build("lid._kernel", tmp_path)
    program = Path(__file__).with_name("fuzz_program.py")
    output = sanitizers.run(program, library, 1, MUTATIONS, *model_paths.values(), timeout_s=500)
    outcomes = literal_eval(output.splitlines()[-1])
    assert sum(outcomes.values()) == MUTATIONS
    assert min(outcomes["succeeded"], outcomes["rejected"]) > MUTATIONS // 4
