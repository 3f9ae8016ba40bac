"""`make demo` without its installation: the real commands on a text, and what it says without."""

import pytest

from nllb.cli import demo


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_text_is_translated_and_its_trust_shown(tiny_model, monkeypatch, capfd) -> None:
    pairs = tiny_model.by_heart["ita_Latn"][:3]
    monkeypatch.setenv("NLLB_MODEL", str(tiny_model.directory))
    monkeypatch.setenv("TEXT", " ".join(source for source, _ in pairs))
    monkeypatch.setattr(demo, "TARGETS", ("eng_Latn", "ita_Latn", "spa_Latn"))
    assert demo.main() == 0
    out = capfd.readouterr().out
    for source, target in pairs:
        assert f"  {source} -> {target}\n" in out
    assert out.count("$ echo ") == 4 and out.count("| nllb translate ") == 3
    assert "    confidence: 0." in out and "Next steps:" in out


def test_where_nothing_translates_it_says_so(monkeypatch, capfd, tmp_path) -> None:
    monkeypatch.setenv("NLLB_MODEL", str(tmp_path / "nowhere"))
    monkeypatch.setenv("TEXT", "The library opens at nine, and everyone is welcome.")
    assert demo.main() == 2
    said = capfd.readouterr()
    assert "no such directory or file" in said.err and "Nothing was translated" in said.out
