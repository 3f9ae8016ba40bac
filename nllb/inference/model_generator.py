"""Translates segments with a model: tokenization, batching, search and detokenization."""

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch

from nllb.errors import ConfigError, ResourceError
from nllb.languages import Language, parse_language
from nllb.languages.scripts import script_of
from nllb.model.coverage import PIVOT, PIVOTED, covered_languages
from nllb.model.formats.encoder_of_model import open_encoder_of_model
from nllb.model.formats.open_model import open_model
from nllb.model.tokenizer import Tokenizer

from .batching import plan_batches
from .byte_fallback import NOT_A_BYTE, byte_rules
from .constrained_search import ConstrainedBeamSearch
from .device_search import DeviceSearches, can_search_on_device
from .encoder_engine import load_encoder_engine
from .engine import Engine, OutputChoice, TorchEngine
from .generator import Hypothesis, SearchOptions, Terms
from .kernels.compiled_engine import int8_engine
from .layers import ExpertStoreFactory, LoadedExperts
from .recommended_search import recommended_search
from .search import Job, Output, check_options, search
from .shortlist import Shortlists, check_shortlist, extra_tokens
from .term_tokens import constrained_options, find_word_pieces, term_alternatives
from .threads import ForkSafeLock, resolve_threads, with_torch_threads

DataType = Literal["auto", "int8", "float32", "bfloat16", "float16"]


def check_data_type(dtype: str) -> None:
    """Validate the type of the weights before a model is opened.

    Raises:
        ConfigError: the type is unknown.
    """
    if dtype not in get_args(DataType):
        valid = ", ".join(get_args(DataType))
        raise ConfigError(f"dtype is {dtype!r}; valid values are {valid}")


TRAINED_POSITIONS = 512
"""Maximum length of NLLB's training sequences, which is lower than its number of positions."""
BATCH_SENTENCES = 64
BATCH_TOKENS = 4096
"""Maximum batch size in rows (including beams) and in tokens; larger batches require more memory
but are hardly faster."""
GPU_BATCH_SENTENCES = 1024
GPU_BATCH_TOKENS = 65_536
"""The same on a GPU, which small batches do not use fully."""


class ModelGenerator:
    """An implementation of `Generator` with a model, its tokenizer and its shortlists."""

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        *,
        shortlists: Shortlists | None = None,
        default_search: SearchOptions | None = None,
        covered: Collection[str] | None = None,
        pivoted: Collection[str] = (),
    ):
        """Create a generator from its parts; `load` reads them from a model directory.

        `covered` contains the codes of the languages that the model declares; None means all
        languages of its vocabulary. `pivoted` contains the directions (SOURCE-TARGET) that are
        translated through English.
        """
        self.engine, self.tokenizer, self._covered = engine, tokenizer, covered
        self._pivoted = frozenset(pivoted)
        self.default_search = default_search or SearchOptions()
        self._shortlists = shortlists or Shortlists({})
        self._projections: dict[str, tuple[object, np.ndarray]] = {}
        self._lock = ForkSafeLock()
        bytes_of_tokens = tokenizer.byte_values(engine.config.vocabulary_size)
        self._byte_ids = np.flatnonzero(bytes_of_tokens != NOT_A_BYTE)
        self._byte_rules = byte_rules(bytes_of_tokens)
        self._device_searches: DeviceSearches | None = None
        self._batch_sentences, self._batch_tokens = BATCH_SENTENCES, BATCH_TOKENS
        if isinstance(engine, TorchEngine) and engine.device.type == "cuda":
            self._device_searches = DeviceSearches(engine)
            self._batch_sentences, self._batch_tokens = GPU_BATCH_SENTENCES, GPU_BATCH_TOKENS

    @cached_property
    def _word_pieces(self) -> frozenset[int]:
        return find_word_pieces(self.tokenizer, self.engine.config.vocabulary_size)

    @classmethod
    def load(
        cls,
        name_or_dir: str | Path,
        *,
        device: str = "auto",
        dtype: DataType = "auto",
        num_threads: int | None = None,
        experts: ExpertStoreFactory = LoadedExperts,
    ) -> "ModelGenerator":
        """Load a model from a directory or by its name on the Hugging Face hub.

        Args:
            name_or_dir: the model.
            device: the device; "auto" uses a GPU if there is one.
            dtype: dtype of the weights in memory; "auto" is int8 on a CPU and bfloat16 on a GPU.
            num_threads: number of CPU threads, including those of torch; None uses all processors.
            experts: creates the expert store; by default, all requested experts stay in memory.

        Raises:
            CheckpointError: the model does not exist, or its weights are invalid.
            ConfigError: the device does not support the dtype, or the number of threads is out of
                range.
            ResourceError: the device is not available.
        """
        opened = open_model(name_or_dir)
        place = _device(device)
        check_data_type(dtype)
        if dtype == "auto":
            dtype = "int8" if place.type == "cpu" else "bfloat16"
        num_threads = resolve_threads(num_threads)
        shortlists = None
        if opened.path.is_dir():
            size = opened.config.vocabulary_size
            shortlists = Shortlists.read(opened.path, vocabulary_size=size)
        make: Callable[..., Engine] = int8_engine
        encoder = None
        if opened.config.pretrained_layers:
            encoder = load_encoder_engine(
                open_encoder_of_model(opened.path, opened.config),
                device=str(place),
                dtype="auto" if dtype == "int8" else dtype,
                num_threads=num_threads,
            )
        if dtype != "int8":
            make = partial(TorchEngine, device=place, dtype=getattr(torch, dtype))
        elif place.type != "cpu":
            raise ConfigError("int8 is only supported on the CPU; use bfloat16 or float16 on a GPU")
        engine = with_torch_threads(
            num_threads,
            make,
            opened.config,
            opened.weights,
            num_threads=num_threads,
            experts=experts,
            source_encoder=encoder,
        )
        found = recommended_search(opened.generation, where=opened.name)
        return cls(
            engine,
            opened.tokenizer(),
            shortlists=shortlists,
            default_search=found.options,
            covered=covered_languages(opened.settings),
            pivoted=opened.settings.get(PIVOTED, ()),
        )

    def with_shortlist(self, target: Language, ids: np.ndarray) -> "ModelGenerator":
        """Return a generator with the same model and a different shortlist for a language.

        Raises:
            CheckpointError: the ids are not ascending ids of the model's vocabulary.
        """
        check_shortlist(ids, self.engine.config.vocabulary_size, where=f"of {target.code}")
        lists = self._shortlists.with_list(target, ids)
        return ModelGenerator(
            self.engine,
            self.tokenizer,
            shortlists=lists,
            default_search=self.default_search,
            covered=self._covered,
            pivoted=self._pivoted,
        )

    def generate(
        self,
        segments: Sequence[str],
        *,
        source: Language,
        target: Language,
        search: SearchOptions,
        prefixes: Sequence[str] | None = None,
        terms: Sequence[Terms] | None = None,
    ) -> list[list[Hypothesis]]:
        """Return the hypotheses of each segment, best first."""
        if f"{source.code}-{target.code}" in self._pivoted:
            return self._generate_by_pivot(
                segments,
                source=source,
                target=target,
                search=search,
                prefixes=prefixes,
                terms=terms,
            )
        check_options(search, num_positions=self._positions)
        forced = list(prefixes) if prefixes is not None else [""] * len(segments)
        required = [()] * len(segments) if terms is None or search.sampling else list(terms)
        # Identical segments are translated once.
        places: dict[tuple[str, str, Terms], int] = {}
        for key in zip(segments, forced, required, strict=True):
            places.setdefault(key, len(places))
        jobs = [self._job(*key, source=source, target=target, options=search) for key in places]
        outputs: list[list[Output]] = [[] for _ in jobs]
        for with_terms in (False, True):
            numbers = [n for n, job in enumerate(jobs) if bool(job.terms) == with_terms]
            options = constrained_options(search) if with_terms else search
            found = self._run_batches([jobs[n] for n in numbers], target, options)
            for number, of_job in zip(numbers, found, strict=True):
                outputs[number] = of_job[: search.num_hypotheses]
        unknown = {segment: self.tokenizer.unknown_characters(segment) for segment, *_ in places}
        return [
            [self._hypothesis(key[0], output, unknown[key[0]]) for output in outputs[places[key]]]
            for key in zip(segments, forced, required, strict=True)
        ]

    def _run_batches(
        self, jobs: Sequence[Job], target: Language, options: SearchOptions
    ) -> list[list[Output]]:
        rows = options.num_hypotheses if options.sampling else options.beam_size
        batches = plan_batches(
            [len(job.source) for job in jobs],
            max_tokens=max(self._batch_tokens // rows, 1),
            max_sentences=max(self._batch_sentences // rows, 1),
        )
        outputs: list[list[Output]] = [[] for _ in jobs]
        run = partial(self._run, target=target, options=options)
        found = self._map(run, [[jobs[job] for job in batch] for batch in batches])
        for batch, of_batch in zip(batches, found, strict=True):
            for job, of_job in zip(batch, of_batch, strict=True):
                outputs[job] = of_job
        return outputs

    def with_pivots(self, directions: Collection[str]) -> "ModelGenerator":
        """Return a generator with the same model that translates these directions in two steps."""
        other = copy(self)
        other._pivoted = frozenset(directions)
        return other

    def _generate_by_pivot(
        self,
        segments: Sequence[str],
        *,
        source: Language,
        target: Language,
        search: SearchOptions,
        prefixes: Sequence[str] | None,
        terms: Sequence[Terms] | None,
    ) -> list[list[Hypothesis]]:
        """Translate into the pivot language, and from there the best hypothesis.

        If an intermediate translation is too long for the model, all segments are translated
        directly.
        """
        pivot = parse_language(PIVOT)
        single = replace(search, num_hypotheses=1, min_output_tokens=0)
        into = self.generate(segments, source=source, target=pivot, search=single)
        middle = [hypotheses[0] for hypotheses in into]
        texts = [hypothesis.text for hypothesis in middle]
        if not all(self.fits(text, source=pivot) for text in texts):
            direct = self.with_pivots(())
            return direct.generate(
                segments,
                source=source,
                target=target,
                search=search,
                prefixes=prefixes,
                terms=terms,
            )
        found = self.generate(
            texts, source=pivot, target=target, search=search, prefixes=prefixes, terms=terms
        )
        return [
            [
                replace(
                    hypothesis,
                    source=first.source,
                    finished=hypothesis.finished and first.finished,
                    unknown_source=first.unknown_source,
                    pivot_text=first.text,
                )
                for hypothesis in hypotheses
            ]
            for first, hypotheses in zip(middle, found, strict=True)
        ]

    def fits(self, segment: str, *, source: Language) -> bool:
        """Return whether the segment does not exceed the model's maximum length."""
        longest = min(self.tokenizer.max_source_tokens, self.engine.config.max_positions)
        longest = min(longest, TRAINED_POSITIONS)
        ids = self.tokenizer.encode_source(segment, source.code, target=source.code)
        return len(ids) <= longest

    def supports(self, language: Language) -> bool:
        """Return whether the model has a token for the language, and covers it."""
        is_covered = self._covered is None or language.code in self._covered
        return is_covered and language.code in self.tokenizer.languages

    def has_shortlist(self, target: Language) -> bool:
        """Return whether the model has a shortlist for this target language."""
        return target in self._shortlists

    @property
    def _positions(self) -> int:
        return self.engine.config.max_positions - 2

    def _job(
        self,
        segment: str,
        prefix: str,
        terms: Terms,
        *,
        source: Language,
        target: Language,
        options: SearchOptions,
    ) -> Job:
        ids = self.tokenizer.encode_source(segment, source.code, target=target.code)
        longest = min(self.tokenizer.max_source_tokens, self.engine.config.max_positions)
        if len(ids) > longest:
            raise ConfigError(
                f"a segment has {len(ids)} tokens, but the model's maximum is {longest}; split it "
                f"(`fits` checks the length)"
            )
        prefix_ids = tuple(self.tokenizer.encode(prefix)) if prefix else ()
        limit = options.max_output_tokens
        if limit is None:
            limit = max(len(ids) * 3 // 2 + 32, options.min_output_tokens)
        return Job(
            source=tuple(ids),
            prompt=tuple(self.tokenizer.decoder_start(target.code)),
            copied=tuple(self.tokenizer.copied_ids(segment)),
            prefix=prefix_ids[: self._positions - 1],
            limit=min(limit + len(prefix_ids), self._positions),
            terms=()
            if prefix
            else tuple(term_alternatives(self.tokenizer, forms, target) for forms in terms),
        )

    def _map(
        self, run: Callable[[Engine, list[Job]], list[list[Output]]], batches: list[list[Job]]
    ) -> list[list[list[Output]]]:
        workers = self.engine.num_workers
        if len(batches) < 2 * workers or workers == 1:
            return [run(self.engine, batch) for batch in batches]
        # For many batches, one thread per batch is faster than all threads for one batch.
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(partial(run, self.engine.worker()), batches))

    def _run(
        self, engine: Engine, jobs: list[Job], *, target: Language, options: SearchOptions
    ) -> list[list[Output]]:
        return with_torch_threads(engine.torch_threads, self._search, engine, jobs, target, options)

    def _search(
        self, engine: Engine, jobs: list[Job], target: Language, options: SearchOptions
    ) -> list[list[Output]]:
        choice = self._choice(jobs, target) if options.shortlist else None
        if jobs[0].terms:
            spaced = script_of(target.script).spaces_words
            return search(
                engine,
                jobs,
                options,
                choice=choice,
                byte_rules=self._byte_rules,
                word_pieces=self._word_pieces if spaced else None,
                beam_search=ConstrainedBeamSearch,
            )
        size = engine.config.vocabulary_size if choice is None else len(choice.ids)
        if (
            self._device_searches is not None
            and self._byte_rules is None
            and self.tokenizer.layout.prompt != "target first"
            and can_search_on_device(options, vocabulary_size=size)
        ):
            with self._lock:
                return self._device_searches.search(jobs, options, choice)
        return search(engine, jobs, options, choice=choice, byte_rules=self._byte_rules)

    def _choice(self, jobs: list[Job], target: Language) -> OutputChoice | None:
        if target not in self._shortlists:
            return None
        with self._lock:
            if target.code not in self._projections:
                ids = self._shortlists.ids(target)
                if np.isin(ids, self._byte_ids).any():  # a character may require any of the bytes
                    ids = np.union1d(ids, self._byte_ids)
                self._projections[target.code] = self.engine.restrict(ids), ids
            projection, ids = self._projections[target.code]
        return OutputChoice(
            projection=projection,
            ids=ids,
            extra=extra_tokens([self._likely_tokens(job) for job in jobs], ids),
        )

    def _likely_tokens(self, job: Job) -> list[int]:
        """Return the tokens of a source and its terms, which a shortlist must not exclude."""
        pieces = [token for token in job.copied if token <= self.tokenizer.layout.num_pieces]
        return pieces + [token for term in job.terms for tokens in term for token in tokens]

    def _hypothesis(self, segment: str, output: Output, unknown: tuple[str, ...]) -> Hypothesis:
        return Hypothesis(
            source=segment,
            text=self.tokenizer.decode(output.token_ids),
            token_ids=output.token_ids,
            log_probability=output.log_probability,
            score=output.score,
            num_tokens=len(output.token_log_probabilities),
            finished=output.finished,
            unknown_source=unknown,
        )


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ResourceError(
            f"the device {name!r} is not available: {str(error).splitlines()[0]}; use 'cpu' or "
            f"'auto'"
        ) from error
    return device
