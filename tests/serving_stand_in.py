"""A server with a stand-in model on a loopback port: quick, and every answer can be checked."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import uvicorn

from nllb.inference.generator import Hypothesis, SearchOptions, Terms
from nllb.languages import Language, languages
from nllb.languages.detection import Detection
from nllb.serving.app import make_service_app
from nllb.serving.server import bind
from nllb.serving.service import Service
from nllb.serving.settings import ServerSettings
from nllb.translation.translator import Translator

CODES = ("eng_Latn", "deu_Latn", "fra_Latn", "spa_Latn", "por_Latn", "zho_Hans", "zho_Hant")
FURTHER = ("nob_Latn", "heb_Hebr", "srp_Cyrl", "tgl_Latn", "yor_Latn", "fur_Latn", "ace_Arab")
KNOWN = frozenset(CODES + FURTHER)


def shifted(text: str, target: str) -> str:
    """Return the stand-in's translation: letters moved on by a number that the target sets."""
    by = 1 + sorted(KNOWN).index(target)

    def shift(letter: str) -> str:
        if "a" <= letter <= "z":
            return chr((ord(letter) - 97 + by) % 26 + 97)
        if "A" <= letter <= "Z":
            return chr((ord(letter) - 65 + by) % 26 + 65)
        return letter

    return "".join(map(shift, text))


def _added(segments: Sequence[str], terms: Sequence[Terms] | None) -> list[str]:
    """Return what the stand-in adds to outputs so that they have their terms."""
    wanted = [()] * len(segments) if terms is None else terms
    return ["".join(f" {forms[0]}" for forms in of_segment) for of_segment in wanted]


@dataclass
class ShiftGenerator:
    """A generator that shifts letters, and records its batches."""

    seconds: float = 0.0
    """Duration of a batch."""
    codes: frozenset[str] = KNOWN
    batches: list[tuple[str, ...]] = field(default_factory=list)
    before_batch: Callable[[Sequence[str]], None] = lambda segments: None

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
        self.batches.append(tuple(segments))
        self.before_batch(segments)
        if self.seconds:
            time.sleep(self.seconds)
        return [
            [
                Hypothesis(
                    source=segment,
                    text=shifted(segment, target.code) + added + "'" * number,
                    token_ids=(1, 2),
                    log_probability=-0.3 - number,
                    score=-0.1 - number,
                    num_tokens=3,
                )
                for number in range(search.num_hypotheses)
            ]
            for segment, added in zip(segments, _added(segments, terms), strict=True)
        ]

    def fits(self, segment: str, *, source: Language) -> bool:
        return len(segment) <= 1000

    def supports(self, language: Language) -> bool:
        return language.code in self.codes

    def has_shortlist(self, target: Language) -> bool:
        return False


class WordDetector:
    """Finds a language by a few words; English is what it falls back to."""

    def detect(self, text: str) -> Detection:
        return self.detect_batch([text])[0]

    def detect_batch(self, texts: Sequence[str], *, top: int = 1) -> list[Detection]:
        return [self._detect(text, top) for text in texts]

    def _detect(self, text: str, top: int) -> Detection:
        words = set(text.casefold().replace(".", " ").split())
        first = "deu_Latn" if words & {"der", "und", "guten", "hallo"} else "eng_Latn"
        others = [language.code for language in languages() if language.code != first]
        alternatives = tuple((code, 0.001) for code in others[: top - 1])
        return Detection(language=first, probability=0.95, alternatives=alternatives)


@dataclass
class RunningServer:
    """A server that runs in a thread."""

    url: str
    service: Service
    generator: ShiftGenerator


@contextmanager
def run_server(
    generator: ShiftGenerator | None = None, **settings: object
) -> Iterator[RunningServer]:
    """Run a server with a stand-in model until the block ends."""
    made = generator or ShiftGenerator()

    def load(name: str | None) -> Translator:
        return Translator(made, detector=WordDetector())

    values = ServerSettings(**{"port": 0, "models": ("stand-in",), **settings})  # type: ignore[arg-type]
    app, service = make_service_app(values, load=load)
    bound = bind(values)
    server = uvicorn.Server(
        uvicorn.Config(
            app, log_config=None, timeout_graceful_shutdown=5, lifespan="on", backlog=2048
        )
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not (server.started and service.pool.default.is_loaded):
        assert thread.is_alive() and time.monotonic() < deadline, "the server did not start"
        time.sleep(0.005)
    try:
        port = bound.getsockname()[1]
        yield RunningServer(url=f"http://127.0.0.1:{port}", service=service, generator=made)
    finally:
        server.should_exit = True
        thread.join(20)
        bound.close()
        assert not thread.is_alive()
