"""The int8 kernel under AddressSanitizer and UBSan, with a seeded corpus of mutated calls."""

from ast import literal_eval
from pathlib import Path

import pytest

MUTATIONS = 2000


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_mutated_calls_are_answered_or_refused(sanitizers, tmp_path) -> None:
    library = sanitizers.build("nllb.inference.kernels._kernel", tmp_path)
    program = Path(__file__).with_name("fuzz_program.py")
    said = sanitizers.run(program, library, 1, MUTATIONS, timeout_s=500)
    outcomes = literal_eval(said.splitlines()[-2])
    assert sum(outcomes.values()) == MUTATIONS
    assert min(outcomes["answered"], outcomes["refused"]) > MUTATIONS // 4


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        ("values[size + 4] = 1;", "heap-buffer-overflow"),
        ("int sum = 2147483643; sum += size; values[0] = sum;", "signed integer overflow"),
    ],
)
def test_the_sanitizers_report_what_is_wrong(sanitizers, tmp_path, fault, word) -> None:
    source = tmp_path / "wrong.c"
    source.write_text(f"void wrong(int size, volatile int *values) {{ {fault} }}\n")
    library = sanitizers.compile([source], tmp_path / "wrong.so")
    program = tmp_path / "wrong.py"
    program.write_text(
        "import ctypes, sys\nctypes.CDLL(sys.argv[1]).wrong(5, (ctypes.c_int * 9)())\n"
    )
    with pytest.raises(AssertionError, match=word):
        sanitizers.run(program, library)
