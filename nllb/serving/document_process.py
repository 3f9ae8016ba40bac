"""Parses and writes an uploaded file in a separate process with limits of memory and time.

The server starts `python -m nllb.serving.document_process`, passes it the file, and answers its
requests for translations of segments and for language detection. Messages are frames of JSON, so
that the process cannot cause anything but these few calls. It can be killed at any time.
"""

import json
import os
import resource
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import IO, Any, Final

from nllb.errors import DocumentError, LanguageError, NllbError
from nllb.inference.generator import Hypothesis, SearchOptions
from nllb.inference.generator import Terms as SegmentTerms
from nllb.inference.word_alignment import Link
from nllb.languages import Language, parse_language
from nllb.languages.detection import Detection
from nllb.translation.retry import SegmentError
from nllb.translation.translator import Translator

from .features import Terms, make_glossary

MAX_FRAME_BYTES: Final = 1 << 30
CPU_SECONDS: Final = 600
"""CPU time of the process; the model runs in the server."""
_LENGTH: Final = struct.Struct(">I")
_ENVIRONMENT: Final = ("PATH", "PYTHONPATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR")
_ERRORS: Final = {each.__name__: each for each in (DocumentError, LanguageError)}


@dataclass(frozen=True, kw_only=True, slots=True)
class TranslatedFile:
    """A translated file.

    Attributes:
        data: The content of the file.
        name: Its name.
        num_characters: Number of characters of its text.
        report: Information for the user, as JSON.
    """

    data: bytes
    name: str
    num_characters: int
    report: dict[str, Any]


class DocumentProcess:
    """One process that translates one file."""

    def __init__(self, *, memory_bytes: int, timeout_s: float) -> None:
        """Start the process.

        Args:
            memory_bytes: Memory limit of the process.
            timeout_s: Time after which it is killed.
        """
        inherited = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=inherited | {"OMP_NUM_THREADS": "1"},
        )
        self._memory_bytes = memory_bytes
        self.was_killed = False
        self._timer = threading.Timer(timeout_s, self.kill)
        self._timer.daemon = True
        self._timer.start()

    def kill(self) -> None:
        """Kill the process; `translate` then raises an error."""
        self.was_killed = True
        self._process.kill()

    def translate(
        self,
        data: bytes,
        name: str,
        translator: Translator,
        *,
        source: Language | None,
        target: Language,
        terms: Terms,
    ) -> TranslatedFile:
        """Translate a file; this must be called only once.

        Raises:
            DocumentError: The file cannot be read, or the process ended.
            LanguageError: A language is not known, or could not be detected.
            SegmentError: A segment has no output.
        """
        request = {
            "name": name,
            "source": None if source is None else source.code,
            "target": target.code,
            "glossary": terms.glossary,
            "do_not_translate": terms.do_not_translate,
            "memory_bytes": self._memory_bytes,
            "search": asdict(translator.default_search),
        }
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        try:
            _write(stdin, json.dumps(request).encode())
            _write(stdin, data)
            while True:
                message = json.loads(_read(stdout))
                if message["kind"] == "call":
                    answer = _answer(translator, message["method"], message["arguments"])
                    _write(stdin, json.dumps(answer).encode())
                elif message["kind"] == "error":
                    raise _ERRORS.get(message["type"], DocumentError)(message["message"])
                else:
                    result = message["result"]
                    return TranslatedFile(data=_read(stdout), **result)
        except (EOFError, OSError):
            raise DocumentError(
                f"{name} could not be translated: it took too much time or memory"
            ) from None
        finally:
            self.close()

    def close(self) -> None:
        """End the process."""
        self._timer.cancel()
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
        self._process.wait()


def _answer(translator: Translator, method: str, arguments: dict[str, Any]) -> Any:
    """Answer a call of the process; no other calls are possible."""
    match method:
        case "generate":
            further = arguments["further"]
            if "terms" in further:
                further["terms"] = [_tuples(terms) for terms in further["terms"]]
            answers = translator.generator.generate(
                arguments["segments"],
                source=parse_language(arguments["source"]),
                target=parse_language(arguments["target"]),
                search=SearchOptions(**arguments["search"]),
                **further,
            )
            return [[asdict(hypothesis) for hypothesis in answer] for answer in answers]
        case "fits":
            source = parse_language(arguments["source"])
            return translator.generator.fits(arguments["segment"], source=source)
        case "supports":
            return translator.generator.supports(parse_language(arguments["language"]))
        case "has_shortlist":
            return translator.generator.has_shortlist(parse_language(arguments["target"]))
        case "align":
            if translator.aligner is None:
                return None
            pairs = [(source, target) for source, target in arguments["pairs"]]
            return [[asdict(link) for link in found] for found in translator.aligner.align(pairs)]
        case "detect_batch":
            if translator.detector is None:
                return None
            found = translator.detector.detect_batch(arguments["texts"], top=arguments["top"])
            return [asdict(detection) for detection in found]
        case _:
            raise DocumentError(f"unknown call {method!r}")


def _tuples(terms: list[list[str]]) -> SegmentTerms:
    return tuple(map(tuple, terms))


def _write(stream: IO[bytes], frame: bytes) -> None:
    stream.write(_LENGTH.pack(len(frame)))
    stream.write(frame)
    stream.flush()


def _read(stream: IO[bytes]) -> bytes:
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    (length,) = _LENGTH.unpack(head)
    if length > MAX_FRAME_BYTES:
        raise EOFError
    frame = stream.read(length)
    if len(frame) < length:
        raise EOFError
    return frame


# Code that runs in the process


class _Server:
    """The server, as seen from the process."""

    def __init__(self, stdin: IO[bytes], stdout: IO[bytes]) -> None:
        self._stdin, self._stdout = stdin, stdout

    def call(self, method: str, **arguments: Any) -> Any:
        message = {"kind": "call", "method": method, "arguments": arguments}
        _write(self._stdout, json.dumps(message).encode())
        return json.loads(_read(self._stdin))


class _RemoteGenerator:
    """The generator of the server."""

    def __init__(self, server: _Server) -> None:
        self._call = server.call
        self._supported: dict[str, bool] = {}

    def generate(
        self,
        segments: Sequence[str],
        *,
        source: Language,
        target: Language,
        search: SearchOptions,
        prefixes: Sequence[str] | None = None,
        terms: Sequence[SegmentTerms] | None = None,
    ) -> list[list[Hypothesis]]:
        further: dict[str, Any] = {}
        if prefixes is not None:
            further["prefixes"] = list(prefixes)
        if terms is not None:
            further["terms"] = list(terms)
        answers = self._call(
            "generate",
            segments=list(segments),
            source=source.code,
            target=target.code,
            search=asdict(search),
            further=further,
        )
        return [[_hypothesis(fields) for fields in answer] for answer in answers]

    def fits(self, segment: str, *, source: Language) -> bool:
        return bool(self._call("fits", segment=segment, source=source.code))

    def supports(self, language: Language) -> bool:
        if language.code not in self._supported:
            self._supported[language.code] = bool(self._call("supports", language=language.code))
        return self._supported[language.code]

    def has_shortlist(self, target: Language) -> bool:
        return bool(self._call("has_shortlist", target=target.code))


def _hypothesis(fields: dict[str, Any]) -> Hypothesis:
    for name in ("token_ids", "unknown_source"):
        fields[name] = tuple(fields[name])
    return Hypothesis(**fields)


class _RemoteDetector:
    """The detector of the server."""

    def __init__(self, server: _Server) -> None:
        self._call = server.call

    def detect(self, text: str) -> Detection:
        return self.detect_batch([text])[0]

    def detect_batch(self, texts: Sequence[str], *, top: int = 1) -> list[Detection]:
        found = self._call("detect_batch", texts=list(texts), top=top)
        if found is None:
            raise LanguageError("language detection is not installed on this server")
        return [
            Detection(**fields | {"alternatives": tuple(map(tuple, fields["alternatives"]))})
            for fields in found
        ]


class _RemoteAligner:
    """The aligner of the server."""

    def __init__(self, server: _Server) -> None:
        self._call = server.call

    def align(self, pairs: Sequence[tuple[str, str]]) -> list[list[Link]]:
        found = self._call("align", pairs=list(pairs))
        if found is None:
            return [[] for _ in pairs]
        return [[Link(**fields) for fields in links] for links in found]


def _mapped_bytes() -> int:
    """Return the current address space of the process, most of which is never used."""
    with open("/proc/self/statm", encoding="ascii") as stream:
        return int(stream.read().split()[0]) * resource.getpagesize()


def _limit(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def _run(stdin: IO[bytes], stdout: IO[bytes]) -> None:
    from nllb.documents import translate_document

    request = json.loads(_read(stdin))
    data = _read(stdin)
    _limit(resource.RLIMIT_AS, _mapped_bytes() + request["memory_bytes"])
    _limit(resource.RLIMIT_CPU, CPU_SECONDS)
    _limit(resource.RLIMIT_CORE, 0)
    server = _Server(stdin, stdout)
    translator = Translator(
        _RemoteGenerator(server),
        detector=_RemoteDetector(server),
        aligner=_RemoteAligner(server),
        default_search=SearchOptions(**request["search"]),
    )
    terms = Terms(
        glossary=tuple(map(tuple, request["glossary"])),
        do_not_translate=tuple(request["do_not_translate"]),
    )
    try:
        translation = translate_document(
            data,
            request["name"],
            translator,
            source="auto" if request["source"] is None else parse_language(request["source"]),
            target=parse_language(request["target"]),
            glossary=make_glossary(terms),
            do_not_translate=terms.do_not_translate,
        )
    except (NllbError, MemoryError, RecursionError) as error:
        kind = "SegmentError" if isinstance(error, SegmentError) else type(error).__name__
        text = str(error) or "the file requires too much memory"
        failed = {"kind": "error", "type": kind, "message": text}
        _write(stdout, json.dumps(failed).encode())
        return
    report = translation.report
    result = {
        "name": translation.name,
        "num_characters": sum(len(unit.source_text) for unit in report.units),
        "report": {
            "format": report.format,
            "source": None if report.source is None else report.source.code,
            "target": report.target.code,
            "num_units": len(report.units),
            "num_flagged": len(report.flagged),
            "warnings": list(report.warnings),
        },
    }
    _write(stdout, json.dumps({"kind": "result", "result": result}).encode())
    _write(stdout, translation.data)


def main() -> None:
    """Translate the file from stdin; stdout is reserved for frames."""
    stdin, stdout = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # the output of libraries must not mix with the frames
    _run(stdin, stdout)


if __name__ == "__main__":
    main()
