"""`nllb card`: what a model was trained on, how, and how well it does, written beside it.

The part of README.md between two marks is written here, from the files of the run; what people
wrote around it stays. `scores.tsv` has every direction, `nllb.json` what a program needs to repeat
the figures.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nllb.cli.stage_flags import quiet_argument
from nllb.errors import ConfigError, DataError
from nllb.io.atomic import atomic_text
from nllb.io.text import read_json, read_json_lines, read_text, write_json, write_lines

if TYPE_CHECKING:
    from eval.flores.results import Evaluation, Row
    from nllb.io.manifest import Manifest
    from nllb.model.formats.model_directory import ModelDirectory

BEGIN, END = "<!-- nllb card: begin -->", "<!-- nllb card: end -->"
SCORES_FILE = "scores.tsv"
FAULTS = ("empty", "copy_of_source", "repeated", "looping")
LARGEST = 10
"""Languages with the most training lines with English that the card shows one by one."""
MANY_PAIRS = 5000
"""Training pairs above which a direction's outputs must be in the right language."""
CURVE_ROWS = 12
ENGLISH = "eng_Latn"


def card_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Write a model's card: README.md (the part between its two marks), scores.tsv with every "
        "direction, and nllb.json. All figures are read from the files of the runs that made them."
    )
    parser.add_argument("model", metavar="MODEL", type=Path, help="the model directory")
    parser.add_argument(
        "--run", dest="run_dir", metavar="DIR", type=Path, required=True, help="OUT of 'nllb train'"
    )
    parser.add_argument("--scores", metavar="DIR", type=Path, help="OUT of 'nllb eval flores'")
    parser.add_argument(
        "--beside",
        metavar="NAME=DIR",
        action="append",
        default=[],
        help="another OUT on the same lines, such as copying=DIR; may be given again",
    )
    parser.add_argument("--licence", metavar="L", help="licence of the weights, for nllb.json")
    parser.add_argument("--summary", metavar="TEXT", help="what it is, for 'nllb models'")
    parser.add_argument("--command", metavar="TEXT", help="the command that trained it")
    parser.add_argument("--hardware", metavar="TEXT", help="what it was trained on")
    quiet_argument(parser)


def card(arguments: argparse.Namespace) -> int:
    from nllb.model.formats.open_model import open_model

    if not arguments.model.is_dir():
        raise ConfigError(f"{arguments.model} is no directory: write the model with 'nllb convert'")
    model = open_model(arguments.model)
    run = _TrainingRecord.read(arguments.run_dir, model.settings.get("training", {}))
    table = None
    if arguments.scores is not None:
        table = _ScoreTable.read(arguments.scores, arguments.beside, run.manifest)
        write_lines(arguments.model / SCORES_FILE, table.lines())
    elif arguments.beside:
        raise ConfigError("--beside needs --scores, the model's own figures")
    text = "\n".join(
        [
            *_data(run),
            *_training(run, model, command=arguments.command, hardware=arguments.hardware),
            *(table.markdown() if table else ()),
        ]
    )
    _write_part(arguments.model / "README.md", text, title=arguments.model.resolve().name)
    settings = dict(model.settings)
    for name in ("licence", "summary"):
        if value := getattr(arguments, name):
            settings[name] = value
    if source := settings.get("source"):  # the path is this machine's
        settings["source"] = {**source, "name": Path(source["name"]).name}
    if table:
        settings["evaluation"] = table.settings()
    write_json(arguments.model / "nllb.json", settings)
    if not arguments.quiet:
        print(f"{arguments.model / 'README.md'}: written")
    return 0


def _write_part(path: Path, text: str, *, title: str) -> None:
    """Put the text between the marks of a file; a file without them gets both at its end."""
    old = read_text(path) if path.is_file() else f"# {title}\n"
    before, begin, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    if begin and not end:
        raise DataError(f"{path}: {BEGIN} without {END} behind it; put both, or take both out")
    with atomic_text(path) as stream:
        stream.write(f"{before.rstrip()}\n\n{BEGIN}\n\n{text}\n\n{END}\n{after.lstrip()}")


@dataclass(frozen=True, kw_only=True, slots=True)
class _TrainingRecord:
    """What a training run has left."""

    config: tuple[str, ...]
    """Lines of its resolved configuration, without comments and without the data's path."""
    state: Mapping[str, Any]
    """State of the model's checkpoint; where that has gone, of the newest."""
    validations: tuple[Mapping[str, Any], ...]
    """Lines of metrics."""
    manifest: "Manifest"
    """Its data."""
    statistics: Mapping[str, Any]
    """What `nllb data stats` wrote beside the data; empty where it did not."""

    @classmethod
    def read(cls, run_dir: Path, trained: Mapping[str, Any]) -> "_TrainingRecord":
        from nllb.config import load_config
        from nllb.io.manifest import read_manifest
        from nllb.training.train_config import TrainConfig

        states = sorted(run_dir.glob("checkpoints/step_*/state.json"))
        if not states:
            raise DataError(f"{run_dir} has no checkpoint: give the OUT of 'nllb train'")
        state = read_json(states[-1])
        for path in states:
            if (earlier := read_json(path))["step"] == trained.get("step"):
                state = earlier
        config = load_config(TrainConfig, run_dir / "config.yaml")
        lines = read_text(run_dir / "config.yaml").splitlines()
        valid = run_dir / "metrics" / "valid.jsonl"
        statistics = config.data.parent / "stats" / "stats.json"
        return cls(
            config=tuple(
                line
                for line in lines
                if not line.lstrip().startswith("#") and not line.startswith("data: ")
            ),
            state=state,
            validations=tuple(
                record
                for record in (read_json_lines(valid) if valid.is_file() else ())
                if record["step"] <= state["step"]
            ),
            manifest=read_manifest(config.data),
            statistics=read_json(statistics) if statistics.is_file() else {},
        )


def _data(run: _TrainingRecord) -> Iterator[str]:
    manifest = run.manifest
    yield from ("## Data", "", "| corpus | origin | licence | pairs |", "|---|---|---|---|")
    for corpus in manifest.corpora:
        licence = corpus.licence or "not stated"
        yield f"| {corpus.name} | {corpus.origin} | {licence} | {corpus.num_pairs:,} |"
    total = sum(corpus.num_pairs for corpus in manifest.corpora)
    yield f"| all | | | {total:,} |"
    yield ""
    yield (
        f"{len(manifest.languages)} languages, {len(manifest.directions):,} directions. "
        f"Vocabulary {manifest.vocabulary.name}, {manifest.vocabulary.num_pieces:,} pieces, "
        f"SHA-256 `{manifest.vocabulary.sha256}`. Shards `{run.state['made_by']['data']}` "
        f"(hash over the files' XXH3-128), made by configuration "
        f"`{manifest.made_by.get('configuration', 'not stated')}`."
    )
    if not run.statistics:
        yield from ("", "The statistics of the data (`nllb data stats`) were not at hand.")
        return
    shield, toxicity = run.statistics["shield"], run.statistics["toxicity"]
    yield from (
        "",
        f"Kept out of it, in every language and on both sides: {', '.join(shield['sets'])}; "
        f"{shield['num_finds']:,} lines were taken out for it.",
        "",
    )
    lists = toxicity["languages_with_list"]
    without = toxicity["languages_not_measurable"]
    if toxicity["measured"] and lists:
        yield (
            f"Toxicity was filtered where there are word lists: {', '.join(lists)}. "
            f"Not measurable, for want of a list: {', '.join(without) or 'none'}."
        )
    else:
        yield (
            "Toxicity: **not measurable**. There was no word list for any language, so nothing was "
            "filtered for it and nothing is known of what the model adds."
        )


def _training(
    run: _TrainingRecord, model: "ModelDirectory", *, command: str | None, hardware: str | None
) -> Iterator[str]:
    from nllb.model.formats.weight_names import num_parameters

    config, state = model.config, run.state
    experts = (
        f", {config.num_experts} experts in every {config.encoder_sparse_step}. layer"
        if config.num_experts
        else ""
    )
    yield from ("", "## Training", "")
    yield (
        f"{num_parameters(config):,} parameters: {config.encoder_layers} + "
        f"{config.decoder_layers} layers of width {config.model_dim}, inner width "
        f"{config.encoder_ffn_dim}{experts}. {state['step']:,} steps, {state['tokens']:,} target "
        f"tokens, {state['seconds'] / 3600:.1f} hours" + (f" on {hardware}." if hardware else ".")
    )
    if command:
        yield from ("", f"    {command}")
    if run.validations:
        yield from _curve(run.validations)
    yield from ("", "The configuration, resolved:", "")
    yield from (f"    {line}" for line in run.config)


def _curve(validations: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    every = -(-len(validations) // CURVE_ROWS)
    shown = [v for n, v in enumerate(validations, 1) if n % every == 0 or n == len(validations)]
    yield from ("", "Held-out lines of the training sources (mean over directions):", "")
    yield from ("| step | loss | chrF++ |", "|---|---|---|")
    for value in shown:
        chrf = f"{value['chrf']:.1f}" if "chrf" in value else ""
        yield f"| {value['step']:,} | {value['loss']:.3f} | {chrf} |"


@dataclass(frozen=True, kw_only=True, slots=True)
class _ScoreTable:
    """The scored directions, and the same ones of other systems."""

    scores: "Evaluation"
    """The model's."""
    beside: Mapping[str, Mapping[str, "Row"]]
    """Name of another system -> direction -> its row."""
    pairs: Mapping[str, int]
    """Direction -> training pairs."""

    @classmethod
    def read(cls, scores: Path, beside: Sequence[str], manifest: "Manifest") -> "_ScoreTable":
        from eval.flores.results import load_evaluation

        own = load_evaluation(scores)
        others = {}
        for given in beside:
            name, equals, directory = given.partition("=")
            if not equals:
                raise ConfigError(f"--beside {given!r} is not of the form NAME=DIR")
            other = load_evaluation(Path(directory))
            if (other.benchmark, other.num_sentences) != (own.benchmark, own.num_sentences):
                raise ConfigError(
                    f"{directory} is of {other.num_sentences:,} sentences of {other.benchmark}, "
                    f"and {scores} of {own.num_sentences:,} of {own.benchmark}: only the same "
                    f"lines can stand side by side"
                )
            others[name] = {str(row.direction): row for row in other.rows}
        pairs = {direction.name: direction.num_pairs for direction in manifest.directions}
        return cls(scores=own, beside=others, pairs=pairs)

    def settings(self) -> dict[str, Any]:
        """Return what a program needs to repeat the figures."""
        made_by = self.scores.provenance
        return {
            "benchmark": self.scores.benchmark,
            "sentences": self.scores.num_sentences,
            "search": made_by.get("search", ""),
            "signatures": {name: dict(value) for name, value in self.scores.signatures.items()},
            "made_by": {
                name: made_by[name]
                for name in ("nllb", "python", "sacrebleu", "git", "created")
                if name in made_by
            },
        }

    def lines(self) -> Iterator[str]:
        """Yield the lines of scores.tsv."""
        metrics = self.scores.metrics
        head = ["source", "target", "pairs", *metrics]
        head += [f"{name}.{metric}" for name in self.beside for metric in metrics]
        search = self.scores.provenance.get("search", "")
        yield (
            f"# SOURCE: nllb eval flores; {self.scores.benchmark}, "
            f"{self.scores.num_sentences} sentences; {search}"
        )
        yield "\t".join([*head, *FAULTS, "judged", "in_target"])
        for row in self.scores.rows:
            name = str(row.direction)
            cells = [row.direction.source, row.direction.target, str(self.pairs.get(name, 0))]
            cells += [_number(row, metric, 4) for metric in metrics]
            for others in self.beside.values():
                cells += [_number(others.get(name), metric, 4) for metric in metrics]
            faults: dict[str, int] = {each.code: each.count for each in row.findings}
            cells += [str(faults.get(code, 0)) for code in FAULTS]
            language = row.language
            cells += ["", ""] if language is None else [str(language.judged), str(language.right)]
            yield "\t".join(cells)

    def markdown(self) -> Iterator[str]:
        """Yield the figures as people read them."""
        from eval.metrics.registry import metric_title

        scores = self.scores
        yield from ("", "## Figures", "")
        search = scores.provenance.get("search")
        yield (
            f"{scores.benchmark}, {scores.num_sentences:,} sentences, {len(scores.rows):,} "
            f"directions{', ' + search if search else ''}; every one is in [scores.tsv]"
            f"({SCORES_FILE}). Levels are those of the weaker language. "
            + " ".join(
                f"{metric_title(name)}: `{value['*']}`."
                for name, value in scores.signatures.items()
                if "*" in value
            )
        )
        yield from self._groups()
        yield from self._largest()
        yield from self._outputs()

    def _groups(self) -> Iterator[str]:
        from eval.flores.directions import GROUPS
        from eval.metrics.registry import metric_title

        columns = [metric_title(metric) for metric in self.scores.metrics]
        columns += [f"chrF++ {name}" for name in self.beside]
        yield from ("", f"| group | directions | {' | '.join(columns)} |")
        yield "|---" * (2 + len(columns)) + "|"
        for group in GROUPS:
            rows = [row for row in self.scores.rows if row.direction.cell in group.cells]
            if rows:
                means = [_mean(rows, metric) for metric in self.scores.metrics]
                means += [_mean(self._same(name, rows), "chrf++") for name in self.beside]
                yield f"| {group.name} | {len(rows):,} | {' | '.join(means)} |"
        untrained = [row for row in self.scores.rows if not self.pairs.get(str(row.direction))]
        if untrained:
            means = [_mean(untrained, metric) for metric in self.scores.metrics]
            means += [_mean(self._same(name, untrained), "chrf++") for name in self.beside]
            yield f"| never trained on | {len(untrained):,} | {' | '.join(means)} |"

    def _same(self, name: str, rows: Sequence["Row"]) -> list["Row | None"]:
        return [self.beside[name].get(str(row.direction)) for row in rows]

    def _largest(self) -> Iterator[str]:
        """Yield the languages with the most training lines with English, both ways."""
        from eval.flores.directions import language_name

        rows = {str(row.direction): row for row in self.scores.rows}
        counts = {
            name.removeprefix(f"{ENGLISH}-"): count
            for name, count in self.pairs.items()
            if name.startswith(f"{ENGLISH}-")
        }
        largest = sorted(counts, key=lambda code: (-counts[code], code))[:LARGEST]
        columns = ["chrF++", *self.beside]
        yield from ("", f"The {len(largest)} languages with the most pairs with English:", "")
        heads = [
            f"{column} {way}" for way in ("from English", "into English") for column in columns
        ]
        yield f"| language | pairs | {' | '.join(heads)} |"
        yield "|---" * (2 + len(heads)) + "|"
        for code in largest:
            cells = []
            for name in (f"{ENGLISH}-{code}", f"{code}-{ENGLISH}"):
                cells.append(_number(rows.get(name), "chrf++", 1))
                cells += [_number(other.get(name), "chrf++", 1) for other in self.beside.values()]
            yield f"| {language_name(code)} | {counts[code]:,} | {' | '.join(cells)} |"

    def _outputs(self) -> Iterator[str]:
        rows = self.scores.rows
        lines = len(rows) * self.scores.num_sentences
        faults = {
            code: sum(f.count for row in rows for f in row.findings if f.code == code)
            for code in FAULTS
        }
        yield ""
        yield (
            f"Of {lines:,} output lines {faults['empty']:,} are empty, "
            f"{faults['copy_of_source']:,} equal the source, {faults['repeated']:,} are the same "
            f"as another's and {faults['looping']:,} repeat themselves."
        )
        many = [row for row in rows if self.pairs.get(str(row.direction), 0) > MANY_PAIRS]
        for what, chosen in ((f"with over {MANY_PAIRS:,} training pairs", many), ("in all", rows)):
            judged = sum(row.language.judged for row in chosen if row.language)
            right = sum(row.language.right for row in chosen if row.language)
            if judged:
                yield (
                    f"In the {len(chosen):,} directions {what}, {100 * right / judged:.1f} % of "
                    f"{judged:,} lines are in the target language, by our own identifier."
                )


def _number(row: "Row | None", metric: str, digits: int) -> str:
    score = row.scores.get(metric) if row is not None else None
    return "" if score is None else f"{score.score:.{digits}f}"


def _mean(rows: Sequence["Row | None"], metric: str) -> str:
    """Return the mean, or nothing where a direction lacks it: means of others do not compare."""
    found = [row.scores[metric].score for row in rows if row is not None and metric in row.scores]
    return f"{sum(found) / len(found):.1f}" if found and len(found) == len(rows) else ""
