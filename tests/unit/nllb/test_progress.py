"""Progress speaks plainly where there is no terminal."""

import pytest

from nllb.progress import Progress, stage, track


def test_plain_lines_tell_the_count_and_the_end(capsys) -> None:
    with Progress("filter", total=3, unit="pairs") as progress:
        for _ in range(3):
            progress.advance(note="ok")
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "filter: 3 of 3 pairs" in err and "done" in err


def test_a_stop_is_not_called_done(capsys) -> None:
    with pytest.raises(ValueError), Progress("filter", unit="pairs") as progress:
        progress.advance(2)
        raise ValueError
    err = capsys.readouterr().err
    assert "2 pairs" in err and "stopped" in err and "done" not in err


def test_quiet_says_nothing_and_track_yields_all(capsys) -> None:
    assert list(track(range(5), "count", quiet=True)) == [0, 1, 2, 3, 4]
    with stage("index", quiet=True):
        pass
    assert capsys.readouterr() == ("", "")
