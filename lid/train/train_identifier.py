"""Train a language identifier: the implementation of `nllb lid train`.

The steps and the files that they write to the output folder; a run resumes after its last finished
step:

1. collect        `work/text.json.zst`    clean text per label and domain, with counts
2. trial          `work/trial.ftz`        a model trained without the held-out text
3. second stage   `experts/GROUP.ftz`     the group classifiers
4. calibrate      `grams.bin`             the n-gram sets
                  `words.bin`             the word frequencies; the acceptance regression and the
                                          thresholds are fitted on the held-out text
5. model          `model.ftz`             the model, trained on all text
                  `work/model.bin`        the same model before quantisation
                  (without `calibration.retrain`, this is the trial model)
                  `card.json`, `CARD.md`  the model card
"""

import hashlib
import json
import random
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lid.acceptance import AcceptanceRegression
from lid.decision import AcceptanceModel, Decider, GroupClassifier
from lid.detector import GROUP_CLASSIFIERS_NAME, MODEL_NAME, NGRAMS_NAME, WORDS_NAME
from lid.engine import OUT_OF_SET_PREFIX, open_engine
from lid.group_classifiers import train_group_classifier
from lid.groups import group_of_language, macro_groups
from lid.ngrams import NgramSets
from lid.word_frequencies import MAX_LABELS, WordFrequencies
from nllb.config import dump_config, load_config, write_config
from nllb.errors import ConfigError, DataError, did_you_mean
from nllb.io.atomic import atomic_text
from nllb.io.benchmarks import sentence_hash
from nllb.io.corpora import open_corpus
from nllb.io.progress import stage
from nllb.io.text import read_json
from nllb.languages import languages

from ..identifier_card import CARD_NAME, ModelCard, write_card
from .acceptance_calibration import (
    acceptance_scores,
    calibrate,
    expected_shares,
    fit_acceptance,
    num_letters,
    shares_with_little_text,
)
from .collection import (
    Collected,
    Lines,
    collect,
    evaluation_hashes,
    line_counts,
    withheld_languages,
)
from .fasttext_training import quantise, save, train_supervised
from .lid_config import LidConfig
from .line_sampling import (
    hold_out_sources,
    joined,
    label_sizes,
    sample_label,
    split_held_out,
    without_keywords,
    write_training_file,
)
from .word_lists import WORDS_DOMAIN, word_frequencies

_MAX_TEXT_BYTES = 1 << 36


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingReport:
    """The result of a training run."""

    directory: Path
    """Model folder."""
    labels: int
    """Number of labels; out-of-set labels are not counted."""
    size_bytes: int
    """Total size of the model, its group classifiers and its card."""
    held_out: dict[str, float]
    """Metrics on held-out lines."""


def train(config: LidConfig, output: Path, *, quiet: bool = False) -> TrainingReport:
    """Train a language identifier into a folder; finished steps of an earlier run are reused.

    Raises:
        ConfigError: Folders or languages of the configuration are missing; nothing is trained.
        DataError: The text does not match the configuration, or the folder contains a run with a
            different configuration.
    """
    check_sources(config)
    work = output / "work"
    _write_or_compare_config(config, output)
    with stage("collect", quiet=quiet):
        collected = _collected(config, work / "text.json.zst", quiet=quiet)
    if len(collected.lines) > MAX_LABELS:
        raise DataError(
            f"the sources have text of {len(collected.lines)} labels, a model can have at most "
            f"{MAX_LABELS}; name fewer in `languages`"
        )
    remaining = _remaining_overlap(collected, config)
    if remaining:
        raise DataError(
            f"{remaining:,} training lines are still in an evaluation set; no model was trained"
        )
    all_lines, held_out = split_held_out(
        collected.lines,
        fraction=config.calibration.held_out_fraction,
        max_lines=config.calibration.max_held_out,
    )
    held_out = {label: joined(lines) for label, lines in held_out.items()}
    trial_lines, held_out_sources = hold_out_sources(
        all_lines,
        config.calibration.held_out_sources,
        min_training_lines=config.calibration.min_training_lines,
        max_texts=config.calibration.max_source_lines,
    )
    withheld = withheld_languages(config, collected.out_of_set)
    out_of_set = {
        label: domains for label, domains in collected.out_of_set.items() if label not in withheld
    }
    withheld_lines = [line for lines in withheld.values() for line in lines]
    model_path, full_path = output / MODEL_NAME, work / "model.bin"
    has_trial = config.calibration.retrain and bool(held_out_sources or withheld)
    trial_path = work / "trial.ftz" if has_trial else model_path
    with stage("train the trial model", quiet=quiet):
        _train_model(config, trial_lines, out_of_set, trial_path, None if has_trial else full_path)
    with stage("train the group classifiers", quiet=quiet):
        group_classifiers = _train_group_classifiers(config, all_lines, output)
    with stage("calibrate", quiet=quiet):
        acceptance_model, thresholds, source_metrics = _calibrate_trial(
            config,
            trial_path,
            output,
            trial_lines=trial_lines,
            held_out=held_out,
            held_out_sources=held_out_sources,
            withheld_lines=withheld_lines,
        )
    lines, final_out_of_set = (
        (all_lines, collected.out_of_set) if has_trial else (trial_lines, out_of_set)
    )
    with stage("train the model", quiet=quiet):
        sampled = _train_model(config, lines, final_out_of_set, model_path, full_path)
        decider = _decider(model_path, output, acceptance_model)
        metrics, confusions = _held_out_metrics(decider, held_out, thresholds)
    card = ModelCard(
        name=output.resolve().name,
        normalised=True,
        licence=config.licence,
        thresholds=thresholds,
        grams=dict(acceptance_model.expected_shares),
        acceptance=acceptance_model.regression.weights,
        limits=acceptance_model.regression.limits,
        labels=len(collected.lines),
        missing=[language.code for language in languages() if language.code not in collected.lines],
        foreign=sorted(label.removeprefix(OUT_OF_SET_PREFIX) for label in final_out_of_set),
        sources=_licences(config),
        counts=line_counts(lines),
        sampled=sampled,
        dropped=dict(sorted(collected.dropped.items())),
        overlap=dict(collected.overlap),
        overlap_left=remaining,
        held_out=metrics,
        left_out=source_metrics,
        confusions=confusions,
        experts=group_classifiers,
        files=_hashes(output),
        config=dump_config(config),
    )
    write_card(card, output)
    size = sum(path.stat().st_size for path in (output / name for name in (*card.files, CARD_NAME)))
    return TrainingReport(directory=output, labels=card.labels, size_bytes=size, held_out=metrics)


def _licences(config: LidConfig) -> dict[str, str]:
    licences = {source.name: source.licence for source in config.sources}
    if config.words is not None:
        licences[WORDS_DOMAIN] = config.words.licence
    return licences


def _calibrate_trial(
    config: LidConfig,
    trial_path: Path,
    output: Path,
    *,
    trial_lines: Lines,
    held_out: dict[str, list[str]],
    held_out_sources: dict[str, list[str]],
    withheld_lines: list[str],
) -> tuple[AcceptanceModel, dict[str, float], dict[str, float]]:
    """Write the n-gram sets, then fit the acceptance regression and thresholds on the trial model.

    Returns:
        The acceptance model, the threshold of each label, and metrics on text that the trial model
        was not trained on.
    """
    ngram_lines = without_keywords(
        trial_lines, _messages(config), config.sampling.max_keyword_fraction
    )
    ngrams = NgramSets.build(
        ngram_lines, max_ngrams=config.ngrams.max_ngrams, size_bytes=config.ngrams.size_bytes
    )
    ngrams.save(output / NGRAMS_NAME)
    words = _word_frequencies(config, ngram_lines)
    words.save(output / WORDS_NAME)
    acceptance_model = AcceptanceModel(
        ngrams=ngrams,
        expected_shares=expected_shares(
            ngrams,
            held_out,
            held_out_sources,
            shares_with_little_text(trial_lines, held_out_sources, config.ngrams.max_ngrams),
            {
                label: sum(num_letters(texts) for texts in domains.values())
                for label, domains in trial_lines.items()
            },
        ),
        regression=AcceptanceRegression(),
        words=words,
    )
    if withheld_lines:
        regression = fit_acceptance(
            _decider(trial_path, output, acceptance_model),
            held_out_sources or held_out,
            withheld_lines,
            config.calibration,
        )
        acceptance_model = replace(acceptance_model, regression=regression)
    decider = _decider(trial_path, output, acceptance_model)
    thresholds = calibrate(decider, held_out_sources, withheld_lines, config.calibration)
    source_metrics = (
        _held_out_metrics(decider, held_out_sources, thresholds)[0] if held_out_sources else {}
    )
    if withheld_lines:
        source_metrics["out-of-set lines that get a label"] = _accepted_fraction(
            decider, withheld_lines, thresholds
        )
    return acceptance_model, thresholds, source_metrics


def _word_frequencies(config: LidConfig, lines: Lines) -> WordFrequencies:
    """Count the words of each label; its word lists are counted as they are, not as lines."""
    lists = {} if config.words is None else word_frequencies(config.words, config.data_dir)
    without_lists = {
        label: {domain: texts for domain, texts in domains.items() if domain != WORDS_DOMAIN}
        for label, domains in lines.items()
    }
    return WordFrequencies.build(
        without_lists,
        lists,
        max_words=config.word_frequencies.max_words,
        max_listed_words=config.word_frequencies.max_listed_words,
    )


def check_sources(config: LidConfig) -> None:
    """Check that the folders and languages of a configuration exist, without reading text.

    Raises:
        ConfigError: A folder is missing, or no source has text in a language; lists all errors.
    """
    errors: list[str] = []
    found: set[str] = set()
    for source in config.sources:
        try:
            found.update(
                open_corpus(config.data_dir / source.path, layout=source.layout).languages()
            )
        except DataError as error:
            errors.append(f"sources: {error}")
    for name, paths in (
        ("evaluation", config.evaluation),
        ("out_of_set.sources", config.out_of_set.sources),
    ):
        errors += [
            f"{name}: the folder {config.data_dir / path} does not exist"
            for path in paths
            if not (config.data_dir / path).is_dir()
        ]
    if not errors:
        errors += [
            f"languages: no source has text in {language.code}{did_you_mean(language.code, found)}"
            for language in config.languages
            if language.code not in found
        ]
    if errors:
        listed = "\n".join(f"  {error}" for error in errors)
        raise ConfigError(f"{len(errors)} error{'s' if len(errors) > 1 else ''}:\n{listed}")


def _write_or_compare_config(config: LidConfig, output: Path) -> None:
    """Write the resolved configuration, or check that the existing one is the same."""
    path = output / "config.yaml"
    if path.is_file() and load_config(LidConfig, path) != config:
        raise DataError(
            f"{output} contains a run with another configuration ({path}); give an empty folder, "
            "or delete this one"
        )
    (output / "work").mkdir(parents=True, exist_ok=True)
    write_config(config, path)


def _collected(config: LidConfig, path: Path, *, quiet: bool) -> Collected:
    if path.is_file():
        document: Any = read_json(path, max_bytes=_MAX_TEXT_BYTES)
        return Collected(
            lines=document["lines"],
            out_of_set=document["foreign"],
            dropped=Counter(document["dropped"]),
            overlap=Counter(document["overlap"]),
        )
    collected = collect(config, quiet=quiet)
    with atomic_text(path) as stream:
        document = {
            "lines": collected.lines,
            "foreign": collected.out_of_set,
            "dropped": collected.dropped,
            "overlap": collected.overlap,
        }
        json.dump(document, stream, ensure_ascii=False)
    return collected


def _remaining_overlap(collected: Collected, config: LidConfig) -> int:
    """Count the training lines that have the same hash as an evaluation sentence."""
    hashes = evaluation_hashes(tuple(config.data_dir / path for path in config.evaluation))
    return sum(
        sentence_hash(line) in hashes
        for lines in (collected.lines, collected.out_of_set)
        for domains in lines.values()
        for texts in domains.values()
        for line in texts
    )


def _train_model(
    config: LidConfig, lines: Lines, out_of_set: Lines, path: Path, full_path: Path | None = None
) -> dict[str, int]:
    """Train and quantise a model unless it exists; return the number of lines per label."""
    rng = random.Random(config.seed)
    counts = {label: sum(map(len, domains.values())) for label, domains in lines.items()}
    sizes = label_sizes(counts, config.sampling)
    sampled = {
        label: sample_label(domains, sizes[label], config.sampling, rng, _messages(config))
        for label, domains in lines.items()
    }
    line_counts = {label: len(texts) for label, texts in sampled.items()}
    for label, domains in out_of_set.items():
        size = int(
            min(
                config.out_of_set.max_lines,
                sum(map(len, domains.values())) * config.sampling.max_repeats,
            )
        )
        sampled[label] = sample_label(domains, size, config.sampling, rng)
    if path.is_file():
        return line_counts
    text_path = path.with_suffix(".txt")
    write_training_file(sampled, text_path, rng)
    model = train_supervised(text_path, config.fasttext)
    if full_path is not None:
        save(model, full_path)
    quantise(model, text_path, path, config.fasttext)
    text_path.unlink()
    return line_counts


def _messages(config: LidConfig) -> set[str]:
    return {domain for source in config.sources for domain in source.message_domains}


def _train_group_classifiers(config: LidConfig, lines: Lines, output: Path) -> dict[str, list[str]]:
    if not config.group_classifiers:
        return {}
    record = output / "work" / "experts.json"
    done: dict[str, list[str]] = read_json(record) if record.is_file() else {}
    (output / GROUP_CLASSIFIERS_NAME).mkdir(exist_ok=True)
    for group in macro_groups():
        if group.name not in done:
            done[group.name] = train_group_classifier(
                group, lines, config, output / GROUP_CLASSIFIERS_NAME / f"{group.name}.ftz"
            )
            with atomic_text(record) as stream:
                json.dump(done, stream)
    return {name: domains for name, domains in done.items() if domains}


def _decider(model_path: Path, output: Path, acceptance_model: AcceptanceModel) -> Decider:
    engine = open_engine(model_path, normalised=True)
    group_classifiers = {
        group.name: GroupClassifier(
            engine=open_engine(classifier_path, normalised=True), weight=group.weight
        )
        for group in macro_groups()
        if (classifier_path := output / GROUP_CLASSIFIERS_NAME / f"{group.name}.ftz").is_file()
    }
    return Decider(engine, group_classifiers, engine.labels, acceptance_model)


def _held_out_metrics(
    decider: Decider, held_out: dict[str, list[str]], thresholds: dict[str, float]
) -> tuple[dict[str, float], list[tuple[str, str, int]]]:
    """Return metrics on held-out lines and the most frequent confusions."""
    wrong: Counter[tuple[str, str]] = Counter()
    answers: Counter[str] = Counter()
    right: Counter[str] = Counter()
    in_group = kept = total = 0
    for label, texts in held_out.items():
        best, scores = acceptance_scores(decider, texts)
        group = group_of_language().get(label, label)
        for index, value in zip(best.tolist(), scores.tolist(), strict=True):
            answer = decider.labels[index]
            total += 1
            kept += value >= thresholds[answer]
            answers[answer] += 1
            in_group += group_of_language().get(answer, answer) == group
            if answer == label:
                right[label] += 1
            else:
                wrong[label, answer] += 1
    f1 = [
        2 * right[label] / max(1, answers[label] + len(texts)) for label, texts in held_out.items()
    ]
    metrics = {
        "macro F1 of the best label": sum(f1) / max(1, len(f1)),
        "lines with the right macro group": in_group / max(1, total),
        "lines not answered with `und`": kept / max(1, total),
    }
    return metrics, [(label, answer, count) for (label, answer), count in wrong.most_common(60)]


def _accepted_fraction(decider: Decider, texts: list[str], thresholds: dict[str, float]) -> float:
    best, scores = acceptance_scores(decider, texts)
    limits = [thresholds[decider.labels[index]] for index in best.tolist()]
    return float((scores >= np.array(limits)).mean())


def _hashes(output: Path) -> dict[str, str]:
    paths = [
        output / MODEL_NAME,
        output / NGRAMS_NAME,
        output / WORDS_NAME,
        *sorted((output / GROUP_CLASSIFIERS_NAME).glob("*.ftz")),
    ]
    return {
        str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
    }
