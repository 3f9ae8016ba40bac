"""Neural metrics as plug-ins, each of which runs in its own process and is never imported.

COMET, MetricX and BLASER require package versions that conflict with each other and with ours. A
plug-in is therefore a command, possibly from another virtual environment, that communicates in JSON
lines:

    we write    {"model": "/path", "source": "eng_Latn", "target": "fra_Latn"}
    it answers  {"name": "...", "version": "...", "licence": "...", "supported": true,
                 "higher_is_better": true}
    we write    {"src": "...", "mt": "...", "ref": "..."}    for each sentence, then close the input
    it answers  {"score": 0.83}                              for each sentence, in order

The first answer should come before weights are loaded; `higher_is_better` is optional.
Adapters for COMET and MetricX are in `eval.metrics.adapters`. Installed plug-ins declare an entry
point of the group `nllb.metrics`: name = module, run as `python -m module`. Weights come from an
explicit local path; nothing is downloaded.
"""

import json
import math
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import entry_points
from pathlib import Path
from tempfile import TemporaryFile
from threading import Thread
from typing import IO, Any, Final

import numpy as np

from nllb.errors import ConfigError, DataError, ResourceError, did_you_mean
from nllb.io.atomic import atomic_text
from nllb.io.text import parse_json, read_json_lines

from .neural_metric import MeanScore
from .resampling import BLOCK, ResampledSums
from .significance import interval

GROUP: Final = "nllb.metrics"
ADAPTERS: Final = {
    name: Path(__file__).with_name("adapters") / f"{name}_adapter.py"
    for name in ("comet", "metricx")
}
"""Adapters that ship, by name: programs without imports from this project."""
Item = tuple[str, str, str]
"""(source, translation, reference)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NeuralScore:
    """The scores of one file by a plug-in."""

    name: str
    """Name that the plug-in states."""
    version: str
    """Version that the plug-in states."""
    licence: str
    """Licence of the weights as the plug-in states it; many are non-commercial."""
    supported: bool
    """Whether the metric was trained on the target language; if not, the score is unreliable."""
    scores: tuple[float, ...]
    """One score for each sentence, as the metric returns it."""
    signature: str
    """Name, version and model."""
    low: float
    """Lower end of the 95 % bootstrap interval of the mean."""
    high: float
    """Upper end."""
    higher_is_better: bool = True
    """False for metrics that count errors, such as MetricX."""

    @property
    def mean(self) -> float:
        """Mean over the sentences."""
        return sum(self.scores) / len(self.scores)


def installed_metrics() -> dict[str, str]:
    """Return name -> module of the installed plug-ins, from package metadata alone."""
    return {point.name: point.value for point in entry_points(group=GROUP)}


def metric_command(name_or_command: str, *, python: Path | None = None) -> list[str]:
    """Return the command of a plug-in: installed, one of `ADAPTERS`, or given as a command.

    Args:
        name_or_command: name of a plug-in, or a command that follows the protocol.
        python: interpreter of the environment in which the metric's package is installed.

    Raises:
        ConfigError: for a single word that is neither a plug-in nor a file.
    """
    interpreter = str(python) if python is not None else sys.executable
    installed = installed_metrics()
    if name_or_command in installed:
        return [interpreter, "-m", installed[name_or_command]]
    if name_or_command in ADAPTERS:
        return [interpreter, str(ADAPTERS[name_or_command])]
    words = shlex.split(name_or_command)
    if len(words) > 1 or (words and Path(words[0]).is_file()):
        return words
    known = sorted({*installed, *ADAPTERS})
    raise ConfigError(
        f"no neural metric {name_or_command!r}{did_you_mean(name_or_command, known) or '.'} "
        f"Available: {', '.join(known)}. Give a name, or a command that follows the protocol of "
        "eval.metrics.neural"
    )


def neural_score(
    command: Sequence[str],
    items: Sequence[Item],
    *,
    source: str,
    target: str,
    model: Path | None = None,
    cache_dir: Path | None = None,
) -> NeuralScore:
    """Score sentences with a plug-in.

    Args:
        command: words of the command.
        items: source, translation and reference of each sentence.
        source: source language.
        target: target language.
        model: local path of the weights, which the plug-in receives.
        cache_dir: folder that caches scores by the hash of sentence, plug-in and model.

    Raises:
        ResourceError: if the plug-in cannot be started, fails, or breaks the protocol.
    """
    head = {"model": str(model) if model else None, "source": source, "target": target}
    if not items:
        raise DataError("no sentences to score")
    # Without a cache one run is enough; with one, the plug-in is first asked for its identity.
    answers = _talk(command, head, items if cache_dir is None else [])
    told = answers[0]
    for key in ("name", "version", "licence", "supported"):
        if key not in told:
            raise ResourceError(f"{_shown(command)} did not state its {key!r}; got {told}")
    identity = f"{told['name']}|{told['version']}|{model or ''}"
    known = _Cache(cache_dir, identity)
    fresh = [item for item in items if known.get(item) is None]
    if fresh:
        if cache_dir is not None:
            answers = _talk(command, head, fresh)
        if len(answers) - 1 != len(fresh):
            raise ResourceError(
                f"{_shown(command)} answered {len(answers) - 1:,} of {len(fresh):,} sentences"
            )
        bad: list[int] = []
        for item, answer in zip(fresh, answers[1:], strict=True):
            if not isinstance(answer.get("score"), (int, float)):
                raise ResourceError(f"{_shown(command)} answered {answer}, not a score")
            if not math.isfinite(answer["score"]):
                bad.append(items.index(item) + 1)
                continue
            known.put(item, float(answer["score"]))
        known.save()
        if bad:
            named = ", ".join(map(str, bad[:5])) + (", ..." if len(bad) > 5 else "")
            raise ResourceError(
                f"{_shown(command)} gave NaN or infinity for {len(bad):,} of {len(items):,} "
                f"sentences (line {named}), so that there is no mean"
            )
    scores = tuple(known.need(item) for item in items)
    low, high = _interval_of_mean(scores)
    return NeuralScore(
        name=str(told["name"]),
        version=str(told["version"]),
        licence=str(told["licence"]),
        supported=bool(told["supported"]),
        scores=scores,
        low=low,
        high=high,
        higher_is_better=bool(told.get("higher_is_better", True)),
        signature=f"{told['name']}|version:{told['version']}|model:{model.name if model else '-'}",
    )


def _interval_of_mean(scores: Sequence[float]) -> tuple[float, float]:
    resampled = ResampledSums(len(scores))
    columns = np.array(scores, dtype=np.float64)[:, None]
    for begin in range(0, len(scores), BLOCK):
        resampled.add({MeanScore.name: columns[begin : begin + BLOCK]})
    return interval(resampled.scores(MeanScore()) / len(scores))


class _Cache:
    """Scores by the hash of sentence, plug-in and model, in one JSONL file per identity."""

    def __init__(self, directory: Path | None, identity: str) -> None:
        self._identity = identity
        self._path = None
        self._scores: dict[str, float] = {}
        if directory is not None:
            self._path = directory / f"{sha256(identity.encode()).hexdigest()[:16]}.jsonl"
            if self._path.is_file():
                for row in read_json_lines(self._path):
                    self._scores[row["key"]] = row["score"]

    def get(self, item: Item) -> float | None:
        return self._scores.get(self._key(item))

    def need(self, item: Item) -> float:
        return self._scores[self._key(item)]

    def put(self, item: Item, score: float) -> None:
        self._scores[self._key(item)] = score

    def save(self) -> None:
        if self._path is None:
            return
        with atomic_text(self._path) as stream:
            for key, score in self._scores.items():
                stream.write(json.dumps({"key": key, "score": score}) + "\n")

    def _key(self, item: Item) -> str:
        text = json.dumps([self._identity, *item], ensure_ascii=False)
        return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _talk(
    command: Sequence[str], head: dict[str, Any], items: Sequence[Item]
) -> list[dict[str, Any]]:
    with TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
            )
        except OSError as error:
            raise ResourceError(f"cannot start {_shown(command)}: {error.strerror}") from error
        assert process.stdin is not None
        assert process.stdout is not None
        # A thread writes, as a plug-in may answer before it has read everything.
        writer = Thread(target=_write, args=(process.stdin, head, items), daemon=True)
        writer.start()
        with process.stdout as answers:
            lines = answers.read().decode("utf-8", "replace").splitlines()
        writer.join()
        code = process.wait()
        errors.seek(0)
        said = errors.read().decode("utf-8", "replace").strip().splitlines()[-3:]
    if code:
        raise ResourceError(f"{_shown(command)} ended with code {code}: {' / '.join(said)}")
    try:
        found = [parse_json(line, "its answer") for line in lines if line.strip()]
    except DataError as error:
        raise ResourceError(f"{_shown(command)} did not answer in JSON lines: {error}") from error
    if not found or not all(isinstance(answer, dict) for answer in found):
        raise ResourceError(f"{_shown(command)} did not answer with JSON objects")
    return found


def _write(stream: IO[bytes], head: dict[str, Any], items: Sequence[Item]) -> None:
    def lines() -> Iterator[dict[str, Any]]:
        yield head
        for source, translation, reference in items:
            yield {"src": source, "mt": translation, "ref": reference}

    try:
        with stream:
            for line in lines():
                stream.write(
                    json.dumps(line, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
                )
    except BrokenPipeError:
        return  # the plug-in has ended; its exit code says why


def _shown(command: Sequence[str]) -> str:
    return f"the plug-in {shlex.join(command)[:120]!r}"
