"""Progress speaks plainly where there is no terminal."""

import pytest

from nllb.io.progress import Progress, stage, track


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


def test_the_rate_leaves_out_what_an_earlier_run_did(capsys, monkeypatch) -> None:
    times = iter((0.0, 0.0, 1.0, 20.0, 20.0, 40.0))
    monkeypatch.setattr("nllb.io.progress.time.monotonic", lambda: next(times))
    with Progress("training", total=4_600, unit="steps") as progress:
        progress.resume(4_400)
        progress.advance(20)
    running, stopped = capsys.readouterr().err.splitlines()
    assert running == "training: 4,420 of 4,600 steps in 20 s, 1 steps/s, 3 min left"
    assert stopped.endswith("in 40 s, 0.5 steps/s, done")
