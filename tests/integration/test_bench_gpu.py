"""The prepared GPU measurement runs from start to end at its smallest size."""

import json

import pytest

from tests.bench.gpu import main

pytest.importorskip("transformers")


@pytest.mark.slow
def test_every_section_writes_its_figures(tmp_path) -> None:
    assert main([str(tmp_path), "--dry"]) == 0
    records = [json.loads(line) for line in (tmp_path / "gpu.jsonl").read_text().splitlines()]
    found = {record["what"] for record in records}
    expected = {"machine", "device search against the CPU", "mixture layer", "training, 600M shape"}
    assert expected | {"600M: ours", "600M: transformers", "3.3B: transformers"} <= found
    assert all(r["equal_outputs"] == r["sentences"] for r in records if "equal_outputs" in r)
