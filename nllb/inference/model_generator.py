"""Segments to hypotheses with a model: tokens, batches, workers, search, and text again."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch

from nllb.errors import ConfigError, ResourceError
from nllb.inference.batching import plan_batches
from nllb.inference.byte_fallback import NOT_A_BYTE, byte_rules
from nllb.inference.engine import Engine, OutputChoice, TorchEngine
from nllb.inference.generator import Hypothesis, SearchOptions
from nllb.inference.kernels.compiled_engine import int8_engine
from nllb.inference.layers import ExpertStoreFactory, LoadedExperts
from nllb.inference.search import Job, Output, check_options, search
from nllb.inference.shortlist import Shortlists, check_shortlist, further_tokens
from nllb.inference.threads import ForkSafeLock, resolve_threads, with_torch_threads
from nllb.languages import Language
from nllb.model.formats.open_model import open_model
from nllb.model.tokenizer import Tokenizer

DataType = Literal["auto", "int8", "float32", "bfloat16", "float16"]

TRAINED_POSITIONS = 512
"""NLLB was trained on at most this many tokens, whatever its positions table would allow."""
BATCH_SENTENCES = 64
BATCH_TOKENS = 4096
"""Beyond these a batch is hardly faster and takes more memory; beams count."""


class ModelGenerator:
    """A model, its tokenizer and its shortlists: an implementation of `Generator`."""

    def __init__(
        self, engine: Engine, tokenizer: Tokenizer, *, shortlists: Shortlists | None = None
    ):
        """Put the parts together; `load` makes them from a model directory."""
        self.engine, self.tokenizer = engine, tokenizer
        self._shortlists = shortlists or Shortlists({})
        self._projections: dict[str, tuple[object, np.ndarray]] = {}
        self._lock = ForkSafeLock()
        bytes_of_tokens = tokenizer.byte_values(engine.config.vocabulary_size)
        self._byte_ids = np.flatnonzero(bytes_of_tokens != NOT_A_BYTE)
        self._byte_rules = byte_rules(bytes_of_tokens)

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
        """Load a model: a directory, or a name on the Hugging Face hub.

        Args:
            name_or_dir: the model.
            device: "auto" is a GPU where there is one.
            dtype: type of the weights in memory; "auto" is int8 on a CPU and bfloat16 on a GPU.
            num_threads: threads on a CPU, those of torch included; None takes all processors.
            experts: makes the store of experts, to leave them in the file.

        Raises:
            CheckpointError: there is no such model, or its weights cannot be used.
            ConfigError: the type does not go with the device, or the number of threads is out of
                range.
            ResourceError: there is no such device.
        """
        opened = open_model(name_or_dir)
        place = _device(device)
        if dtype not in get_args(DataType):
            raise ConfigError(f"dtype is {dtype!r}; valid are {', '.join(get_args(DataType))}")
        if dtype == "auto":
            dtype = "int8" if place.type == "cpu" else "bfloat16"
        num_threads = resolve_threads(num_threads)
        shortlists = None
        if opened.path.is_dir():
            size = opened.config.vocabulary_size
            shortlists = Shortlists.read(opened.path, vocabulary_size=size)
        make: Callable[..., Engine] = int8_engine
        if dtype != "int8":
            make = partial(TorchEngine, device=place, dtype=getattr(torch, dtype))
        elif place.type != "cpu":
            raise ConfigError("int8 runs on the CPU; on a GPU use bfloat16 or float16")
        engine = with_torch_threads(
            num_threads,
            make,
            opened.config,
            opened.weights,
            num_threads=num_threads,
            experts=experts,
        )
        return cls(engine, opened.tokenizer(), shortlists=shortlists)

    def with_shortlist(self, target: Language, ids: np.ndarray) -> "ModelGenerator":
        """Return a generator over the same model with another list for a language.

        Raises:
            CheckpointError: the ids are not ascending ids of the model's vocabulary.
        """
        check_shortlist(ids, self.engine.config.vocabulary_size, where=f"of {target.code}")
        lists = self._shortlists.with_list(target, ids)
        return ModelGenerator(self.engine, self.tokenizer, shortlists=lists)

    def generate(
        self,
        segments: Sequence[str],
        *,
        source: Language,
        target: Language,
        search: SearchOptions,
        prefixes: Sequence[str] | None = None,
    ) -> list[list[Hypothesis]]:
        """Return for each segment, in order, its hypotheses, best first."""
        check_options(search, num_positions=self._positions)
        beginnings = list(prefixes) if prefixes is not None else [""] * len(segments)
        # Identical segments are translated once.
        places: dict[tuple[str, str], int] = {}
        for key in zip(segments, beginnings, strict=True):
            places.setdefault(key, len(places))
        jobs = [self._job(*key, source, target, search) for key in places]
        rows = search.num_hypotheses if search.sampling else search.beam_size
        batches = plan_batches(
            [len(job.source) for job in jobs],
            max_tokens=max(BATCH_TOKENS // rows, 1),
            max_sentences=max(BATCH_SENTENCES // rows, 1),
        )
        outputs: list[list[Output]] = [[] for _ in jobs]
        run = partial(self._run, target=target, options=search)
        found = self._map(run, [[jobs[job] for job in batch] for batch in batches])
        for batch, of_batch in zip(batches, found, strict=True):
            for job, of_job in zip(batch, of_batch, strict=True):
                outputs[job] = of_job
        unknown = {segment: self.tokenizer.unknown_characters(segment) for segment, _ in places}
        return [
            [self._hypothesis(key[0], output, unknown[key[0]]) for output in outputs[places[key]]]
            for key in zip(segments, beginnings, strict=True)
        ]

    def fits(self, segment: str, *, source: Language) -> bool:
        """Say whether the segment is short enough for the model to take whole."""
        longest = min(self.engine.config.max_positions, TRAINED_POSITIONS)
        return len(self.tokenizer.encode_source(segment, source.code)) <= longest

    def supports(self, language: Language) -> bool:
        """Say whether the model has the language's token."""
        return language.code in self.tokenizer.languages

    def has_shortlist(self, target: Language) -> bool:
        """Say whether `SearchOptions.shortlist` makes a difference for this target."""
        return target in self._shortlists

    @property
    def _positions(self) -> int:
        return self.engine.config.max_positions - 2

    def _job(
        self, segment: str, prefix: str, source: Language, target: Language, options: SearchOptions
    ) -> Job:
        ids = self.tokenizer.encode_source(segment, source.code)
        if len(ids) > self.engine.config.max_positions:
            raise ConfigError(
                f"a segment has {len(ids)} tokens and the model takes "
                f"{self.engine.config.max_positions}; split it (`fits` says whether it has to be)"
            )
        start, language = self.tokenizer.decoder_start(target.code)
        beginning = tuple(self.tokenizer.encode(prefix)) if prefix else ()
        limit = options.max_output_tokens
        if limit is None:
            limit = max(len(ids) * 3 // 2 + 32, options.min_output_tokens)
        return Job(
            source=tuple(ids),
            prompt=(start, language),
            prefix=beginning[: self._positions - 1],
            limit=min(limit + len(beginning), self._positions),
        )

    def _map(
        self, run: Callable[[Engine, list[Job]], list[list[Output]]], batches: list[list[Job]]
    ) -> list[list[list[Output]]]:
        workers = self.engine.num_workers
        if len(batches) < 2 * workers or workers == 1:
            return [run(self.engine, batch) for batch in batches]
        # Many batches: one thread for each is faster than all threads for one.
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
        return search(engine, jobs, options, choice=choice, byte_rules=self._byte_rules)

    def _choice(self, jobs: list[Job], target: Language) -> OutputChoice | None:
        if target not in self._shortlists:
            return None
        with self._lock:
            if target.code not in self._projections:
                ids = self._shortlists.ids(target)
                if np.isin(ids, self._byte_ids).any():  # a character needs all of its bytes
                    ids = np.union1d(ids, self._byte_ids)
                self._projections[target.code] = self.engine.restrict(ids), ids
            projection, ids = self._projections[target.code]
        return OutputChoice(
            projection=projection,
            ids=ids,
            extra=further_tokens([job.source[1:] for job in jobs], ids),
        )

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
            f"no device {name!r} here: {str(error).splitlines()[0]}; use 'cpu' or 'auto'"
        ) from error
    return device
