"""Expert use by language: counts against the routers' own choices, likeness, page and tables."""

from pathlib import Path

import numpy as np
import pytest
import torch

from nllb.cli import main
from nllb.errors import ConfigError, DataError
from nllb.inference.expert_analysis import measure_expert_use
from nllb.io.benchmarks import load_aligned
from nllb.io.text import read_table
from nllb.model.formats.open_model import load_model, open_model
from nllb.model.moe import route

LINES = {
    "eng_Latn": ["English and Welsh", "Irish", "Zulu and Xhosa."],
    "fra_Latn": ["anglais et gallois", "irlandais", "zoulou et xhosa."],
    "zul_Latn": ["isiZulu nesiXhosa", "isiNgisi", "isiZulu."],
}


@pytest.fixture
def text_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "text"
    folder.mkdir()
    for code, lines in LINES.items():
        (folder / f"{code}.txt").write_text("\n".join(lines) + "\n")
    (folder / "qqq_Latn.txt").write_text("not\nof\nthe model\n")
    return folder


def test_counts_are_the_routers_choices(random_model_dir: Path, text_dir: Path) -> None:
    opened = open_model(random_model_dir)
    use = measure_expert_use(opened, load_aligned(text_dir), max_lines=10, quiet=True)
    assert {language.code for language in use.languages} == set(LINES)
    assert set(use.shares) == {"encoder.layers.1", "decoder.layers.1"}
    model, tokenizer = load_model(opened), opened.tokenizer()
    seen: dict[str, list[torch.Tensor]] = {}
    for side in ("encoder", "decoder"):
        layer = getattr(model, side).layers[1].feed_forward
        layer.register_forward_pre_hook(
            lambda module, inputs, side=side: seen.setdefault(side, []).append(inputs[0])
        )
    for row, language in enumerate(use.languages):
        for side, name in (("encoder", "encoder.layers.1"), ("decoder", "decoder.layers.1")):
            counts = np.zeros(4)
            for number, line in enumerate(LINES[language.code]):
                seen.clear()
                spoken = "eng_Latn" if side == "decoder" else language.code
                source = tokenizer.encode_source(LINES[spoken][number], spoken)
                target = [2, *tokenizer.encode_target(line, language.code)[:-1]]
                with torch.no_grad():
                    model(torch.tensor([source]), torch.tensor([target]))
                router = getattr(model, side).layers[1].feed_forward.router
                chosen = route(router(seen[side][0][0]))[1]
                counts += np.bincount(chosen.flatten(), minlength=4)
            np.testing.assert_allclose(use.shares[name][row], counts / counts.sum())


def test_the_command_writes_page_and_tables(
    random_model_dir: Path, text_dir: Path, tmp_path: Path, capsys
) -> None:
    out = tmp_path / "out"
    command = ["experts", str(random_model_dir), str(out), "--text", str(text_dir), "--quiet"]
    assert main(command) == 0
    assert capsys.readouterr().out.strip() == str(out / "experts.html")
    page = (out / "experts.html").read_text()
    assert "encoder.layers.1" in page and "zul_Latn" in page
    rows = list(read_table(out / "similarity.tsv"))
    assert len(rows) == 2 * 9
    own = [float(row["cosine"]) for row in rows if row["language"] == row["other"]]
    assert own == pytest.approx([1.0] * 6)
    shares = list(read_table(out / "experts.tsv"))
    assert sum(float(row["share"]) for row in shares) == pytest.approx(6, abs=1e-4)


def test_what_cannot_be_analysed_is_refused(
    random_model_dir: Path, text_dir: Path, tmp_path: Path
) -> None:
    opened = open_model(random_model_dir)
    for code in ("fra_Latn", "zul_Latn"):
        (text_dir / f"{code}.txt").unlink()
    with pytest.raises(DataError, match="1 of the model's languages"):
        measure_expert_use(opened, load_aligned(text_dir), max_lines=5, quiet=True)
    import dataclasses

    dense = dataclasses.replace(
        opened, config=dataclasses.replace(opened.config, num_experts=0, encoder_sparse_step=0)
    )
    with pytest.raises(ConfigError, match="dense model"):
        measure_expert_use(dense, load_aligned(text_dir), max_lines=5, quiet=True)
