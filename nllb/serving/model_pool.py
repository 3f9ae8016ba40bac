"""The models of the server, which are loaded on first use and unloaded when they are idle."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

from nllb.errors import did_you_mean
from nllb.languages import Language, languages
from nllb.languages.detection import Detector
from nllb.translation.translator import Translator

from .errors import RequestError
from .segment_queue import SegmentQueue

LoadTranslator = Callable[[str | None], Translator]
MakeQueue = Callable[[Translator], SegmentQueue]


class ServedModel:
    """One model of the server.

    Attributes:
        name: The name that requests use.
        origin: Its directory or hub name; None is the default model of `nllb`.
    """

    def __init__(self, name: str, origin: str | None) -> None:
        self.name, self.origin = name, origin
        self.lock = threading.Lock()
        self.translator: Translator | None = None
        self.queue: SegmentQueue | None = None
        self.num_users = 0
        self.last_used = monotonic()
        self.languages: tuple[Language, ...] | None = None

    @property
    def is_loaded(self) -> bool:
        """Whether the model is in memory."""
        return self.translator is not None


class ModelPool:
    """All models of the server. Its methods can be called from any thread."""

    def __init__(
        self,
        names: tuple[str, ...],
        *,
        load: LoadTranslator,
        make_queue: MakeQueue,
        idle_unload_s: float = 0,
    ) -> None:
        """Create the pool without loading a model.

        Args:
            names: Directories or hub names, the default model first; empty uses nllb's default
                model.
            load: Loads a model.
            make_queue: Creates the queue in front of a loaded model.
            idle_unload_s: Seconds without use after which `unload_idle` unloads a model; 0
                disables unloading.
        """
        from nllb.inference.load_model import default_model

        origins: dict[str, str | None] = {}
        for name in names or (default_model()[0],):
            origins[Path(name).name if Path(name).is_dir() else name] = name
        self.models = {name: ServedModel(name, origin) for name, origin in origins.items()}
        self._load, self._make_queue, self._idle_s = load, make_queue, idle_unload_s

    @property
    def default(self) -> ServedModel:
        """The model of requests that do not name one."""
        return next(iter(self.models.values()))

    def find(self, name: str | None) -> ServedModel:
        """Return a model by its name.

        Raises:
            RequestError: The server does not have this model.
        """
        if name is None:
            return self.default
        model = self.models.get(name)
        if model is None:
            known = ", ".join(self.models)
            raise RequestError(
                400,
                f"unknown model {name[:80]!r}{did_you_mean(name[:80], self.models) or '.'} "
                f"This server has: {known}",
                code="unknown_model",
                suggestions=tuple(self.models),
            )
        return model

    @contextmanager
    def use(self, name: str | None) -> Iterator[ServedModel]:
        """Return a loaded model; it stays loaded until the block ends."""
        model = self.find(name)
        with model.lock:
            if model.translator is None:
                model.translator = self._load(model.origin)
                model.queue = self._make_queue(model.translator)
            model.num_users += 1
        try:
            yield model
        finally:
            with model.lock:
                model.num_users -= 1
                model.last_used = monotonic()

    def languages(self, name: str | None) -> tuple[Language, ...]:
        """Return the languages of a model, which is loaded once to determine them."""
        model = self.find(name)
        if model.languages is None:
            with self.use(name):
                assert model.translator is not None
                generator = model.translator.generator
                model.languages = tuple(each for each in languages() if generator.supports(each))
        return model.languages

    def detector(self) -> Detector | None:
        """Return the language detector, with the default model loaded."""
        with self.use(None) as model:
            assert model.translator is not None
            return model.translator.detector

    def unload_idle(self) -> None:
        """Unload the models that have been idle for long enough."""
        if not self._idle_s:
            return
        for model in self.models.values():
            with model.lock:
                idle = not model.num_users and monotonic() - model.last_used > self._idle_s
                if idle and model.queue is not None:
                    model.queue.close()
                    model.translator = model.queue = None

    @property
    def num_waiting_segments(self) -> int:
        """Number of segments of all models that wait or are being computed."""
        queues = [model.queue for model in self.models.values()]
        return sum(queue.num_waiting for queue in queues if queue is not None)

    def close(self) -> None:
        """Unload all models; requests that still wait for a segment fail."""
        for model in self.models.values():
            if model.queue is not None:
                model.queue.close()
