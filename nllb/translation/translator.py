"""The translator, which returns translations with a trust record for each segment.

    translator = Translator.load("facebook/nllb-200-distilled-600M")
    translator.translate("Hello. How are you?", "en", "fr").text

Languages are arguments of every call, never state. Newlines, indentation, list markers and white
space are kept, so a whole document can be passed as one text.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, overload

from nllb.errors import LanguageError, ResourceError
from nllb.inference.generator import Generator, SearchOptions
from nllb.inference.word_alignment import Aligner, ShippedAligner
from nllb.languages import Language, languages, parse_language
from nllb.languages.detection import Detector
from nllb.model.coverage import suggest_models

from .glossary import Glossary
from .job import Memory, TranslationJob
from .meaning import MeaningCheck
from .placeholders import PlaceholderPattern, Protection
from .results import Translation
from .retry import RetryBudget
from .source_detection import SourceDetection, SourceLanguage
from .windows import LOOK_AHEAD_LINES, growing_windows

if TYPE_CHECKING:
    from nllb.inference.model_generator import DataType

AUTO: Final = "auto"
ASSUMED_SOURCE: Final = "eng_Latn"
"""Default language that is assumed for text that the detector cannot identify."""


class Translator:
    """Translates between any two languages of a model, in any number of calls.

    A translator from `load` can be pickled; the copy loads the same model by its name or path.

    Attributes:
        generator: Translates single segments.
        detector: Identifies languages; required for `source="auto"`, and used to check the language
            of each output. None disables both.
        meaning: Compares the meaning of outputs with that of their sources, for the flag `meaning`;
            None disables the check.
        aligner: Aligns the words of texts and translations to place markup and placeholders; None
            places them by relative position.
        default_search: The search options of calls without any, which a model may recommend.
    """

    def __init__(
        self,
        generator: Generator,
        *,
        detector: Detector | None = None,
        meaning: MeaningCheck | None = None,
        aligner: Aligner | None = None,
        default_search: SearchOptions | None = None,
    ):
        """Wrap a generator; `Translator.load` creates one from a model.

        Args:
            generator: Translates single segments.
            detector: Identifies languages.
            meaning: Compares the meaning of outputs with that of their sources.
            aligner: Aligns words, to place markup in translations.
            default_search: The search options of calls without any.
        """
        self.generator = generator
        self.detector = detector
        self.meaning = meaning
        self.aligner = aligner
        self.default_search = default_search or SearchOptions()
        self._loaded_with: dict[str, Any] | None = None

    @classmethod
    def load(
        cls,
        name_or_dir: str | Path | None = None,
        *,
        device: str = "auto",
        dtype: "DataType" = "auto",
        detector: Detector | Literal["auto"] | None = None,
        expert_memory: int | None = None,
        num_threads: int | None = None,
        similarity: bool = True,
        report: Callable[[str], None] | None = None,
    ) -> "Translator":
        """Load a model.

        Args:
            name_or_dir: A directory, a name on the Hugging Face hub, or `mini`, which ships with
                the package; None selects the default model of `nllb translate`.
            device: `cpu`, `cuda`, or `auto`, which uses a GPU if there is one.
            dtype: Type of the weights in memory; `auto` is int8 on a CPU and bfloat16 on a GPU.
            detector: Identifies languages; `auto` loads the one that ships with the package.
            expert_memory: Maximum bytes for the experts of a mixture-of-experts model, which are
                then read from the file on demand; None keeps all of them in memory.
            num_threads: Number of threads on a CPU; None uses all processors.
            similarity: Whether to compare the meaning of outputs with that of their sources by the
                shipped sentence encoder, for the flag `meaning`. The encoder is loaded at the first
                translation.
            report: Called with a description of the model's requirements before anything large is
                read.

        Raises:
            CheckpointError: The model does not exist, or it cannot be read.
            ResourceError: The model does not fit into memory, or no detector is installed.
        """
        from nllb.inference.load_model import default_model, load_generator

        found = load_detector() if detector == "auto" else detector
        generator = load_generator(
            name_or_dir,
            device=device,
            dtype=dtype,
            expert_memory=expert_memory,
            num_threads=num_threads,
            report=report,
        )
        meaning = MeaningCheck(num_threads=num_threads) if similarity else None
        translator = cls(
            generator,
            detector=found,
            meaning=meaning,
            aligner=ShippedAligner(num_threads=num_threads),
            default_search=generator.default_search,
        )
        name = default_model()[0] if name_or_dir is None else name_or_dir
        translator._loaded_with = {
            "name_or_dir": str(Path(name).resolve()) if Path(name).exists() else str(name),
            "device": device,
            "dtype": dtype,
            "expert_memory": expert_memory,
            "num_threads": num_threads,
            "similarity": similarity,
        }
        return translator

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the name of the model and the options of `load`, but not the weights."""
        if self._loaded_with is None:
            raise TypeError(
                "this Translator wraps a generator object and cannot be pickled; use one from "
                "Translator.load, which is loaded again by name where it is unpickled"
            )
        return _load_again, (self._loaded_with, self.detector)

    @overload
    def translate(
        self,
        text: str,
        source: str | Language,
        target: str | Language,
        *,
        search: SearchOptions | None = None,
        retry: bool | RetryBudget = True,
        wrapped: bool = False,
        assumed_source: str | Language | None = ASSUMED_SOURCE,
        glossary: Glossary | None = None,
        do_not_translate: Sequence[str] = (),
        placeholders: Sequence[str] | None = None,
    ) -> Translation: ...

    @overload
    def translate(
        self,
        text: list[str] | tuple[str, ...],
        source: str | Language,
        target: str | Language,
        *,
        search: SearchOptions | None = None,
        retry: bool | RetryBudget = True,
        wrapped: bool = False,
        assumed_source: str | Language | None = ASSUMED_SOURCE,
        glossary: Glossary | None = None,
        do_not_translate: Sequence[str] = (),
        placeholders: Sequence[str] | None = None,
    ) -> list[Translation]: ...

    def translate(
        self,
        text: str | list[str] | tuple[str, ...],
        source: str | Language,
        target: str | Language,
        *,
        search: SearchOptions | None = None,
        retry: bool | RetryBudget = True,
        wrapped: bool = False,
        assumed_source: str | Language | None = ASSUMED_SOURCE,
        glossary: Glossary | None = None,
        do_not_translate: Sequence[str] = (),
        placeholders: Sequence[str] | None = None,
    ) -> Translation | list[Translation]:
        """Translate a text, or each text of a list.

        Args:
            text: Any text: a sentence, a line, or a document with its newlines. A list returns a
                list.
            source: The source language (`en`, `eng_Latn`, `English`), or `auto` to detect it. Each
                line of a text of several lines may then have its own language; lines in the target
                language are kept.
            target: The target language.
            search: Search options; by default those of the model's `generation_config.json`, or
                else beam search with four beams.
            retry: Whether outputs that loop, stop early or are in the wrong language are retried; a
                `RetryBudget` limits the total retries of several calls.
            wrapped: Whether the text is wrapped at a fixed width. Sentences then continue after the
                ends of full lines, and the translation is wrapped at the corresponding places.
                Otherwise every newline is hard.
            assumed_source: With `auto`, the language of text that the detector cannot identify; its
                segments are flagged `uncertain_source`. None raises an error instead.
            glossary: Terms with the translations that outputs must use.
            do_not_translate: Terms that every output keeps unchanged.
            placeholders: Regular expressions of additional placeholders. If this is given (even if
                empty), or if there are terms in `do_not_translate`, every placeholder (addresses,
                `{name}`, `%s` and so on) is guaranteed to be in the output.

        Raises:
            ConfigError: An expression is invalid.
            LanguageError: A language is unknown, not covered by the model, or could not be
                detected; or source and target are the same.
            SegmentError: A segment has no output.
        """
        texts = [text] if isinstance(text, str) else list(text)
        for number, each in enumerate(texts):
            if not isinstance(each, str):
                raise TypeError(f"text {number} is {type(each).__name__}, not str")
        job = self._job(
            source,
            target,
            search=search,
            retry=retry,
            wrapped=wrapped,
            assumed_source=assumed_source,
            glossary=glossary,
            do_not_translate=do_not_translate,
            placeholders=placeholders,
        )
        translations = job.translate(texts, OrderedDict())
        return translations[0] if isinstance(text, str) else translations

    def translate_stream(
        self,
        lines: Iterable[str],
        source: str | Language,
        target: str | Language,
        *,
        search: SearchOptions | None = None,
        retry: bool | RetryBudget = True,
        look_ahead: int = LOOK_AHEAD_LINES,
        assumed_source: str | Language | None = ASSUMED_SOURCE,
        glossary: Glossary | None = None,
        do_not_translate: Sequence[str] = (),
        placeholders: Sequence[str] | None = None,
    ) -> Iterator[Translation]:
        """Translate lines one after the other in bounded memory; yields a translation per line.

        At most `look_ahead` lines are read before their translations are returned; with 1, each
        line is answered before the next one is read. The first windows are small, so that output
        begins early.

        Raises:
            LanguageError: Immediately, not at the first line; or later, if detection failed.
            SegmentError: A segment has no output; the lines before its window have been yielded.
        """
        windows = growing_windows(lines, look_ahead=look_ahead)
        return self.translate_windows(
            windows,
            source,
            target,
            search=search,
            retry=retry,
            assumed_source=assumed_source,
            glossary=glossary,
            do_not_translate=do_not_translate,
            placeholders=placeholders,
        )

    def translate_windows(
        self,
        windows: Iterable[Sequence[str]],
        source: str | Language,
        target: str | Language,
        *,
        search: SearchOptions | None = None,
        retry: bool | RetryBudget = True,
        wrapped: bool = False,
        assumed_source: str | Language | None = ASSUMED_SOURCE,
        document: SourceLanguage | None = None,
        glossary: Glossary | None = None,
        do_not_translate: Sequence[str] = (),
        placeholders: Sequence[str] | None = None,
    ) -> Iterator[Translation]:
        """Translate texts that arrive in windows; each window is answered before the next is read.

        `document` is the main language of a document that the texts are lines of, as returned by
        `detect_source`; it only matters with the source `auto`.
        """
        if isinstance(retry, bool) and retry:
            retry = RetryBudget()
        job = self._job(
            source,
            target,
            search=search,
            retry=retry,
            wrapped=wrapped,
            assumed_source=assumed_source,
            document=document,
            glossary=glossary,
            do_not_translate=do_not_translate,
            placeholders=placeholders,
        )

        def translations() -> Iterator[Translation]:
            remembered: Memory = OrderedDict()
            for window in windows:
                yield from job.translate(window, remembered)
                job.forget(remembered)

        return translations()

    def translate_protected(
        self,
        texts: Sequence[str],
        source: str | Language,
        target: str | Language,
        *,
        protection: Protection,
        glossary: Glossary | None = None,
        search: SearchOptions | None = None,
        retry: bool | RetryBudget = True,
        assumed_source: str | Language | None = ASSUMED_SOURCE,
        document: SourceLanguage | None = None,
    ) -> list[Translation]:
        """Translate texts that contain a private-use character for each placeholder.

        The translations contain the same characters, each as often as its text. Documents are
        translated in this way, because their markup consists of placeholders as well.
        """
        job = self._job(
            source,
            target,
            search=search,
            retry=retry,
            wrapped=False,
            assumed_source=assumed_source,
            glossary=glossary,
            document=document,
        )
        return job.translate_protected(texts, OrderedDict(), protection)

    def language(self, text: str | Language) -> Language:
        """Return a language of the model.

        Raises:
            LanguageError: The language does not exist, or the model does not cover it.
        """
        language = text if isinstance(text, Language) else parse_language(text)
        if not self.generator.supports(language):
            known = [each.code for each in languages() if self.generator.supports(each)]
            shown = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
            raise LanguageError(
                f"the model does not cover {language.code} ({language.name}); "
                f"it covers {len(known)} languages: {shown} (nllb languages --model M lists them); "
                f"{suggest_models(language)}"
            )
        return language

    def detect(self, text: str) -> tuple[Language, float] | None:
        """Return the source language of a text and its probability; None without letters.

        Text that the detector cannot identify is assumed to be English.

        Raises:
            LanguageError: There is no detector, or it returns no language of the model.
        """
        source = self.detect_source(text)
        return None if source.language is None else (source.language, source.probability or 0.0)

    def detect_source(
        self, text: str, *, assumed_source: str | Language | None = ASSUMED_SOURCE
    ) -> SourceLanguage:
        """Return the source language of a text, and how it was determined.

        Raises:
            LanguageError: There is no detector, or it returns no language of the model.
        """
        [source] = self._detection(assumed_source).detect_texts([text])
        return source

    def _detection(self, assumed_source: str | Language | None) -> SourceDetection:
        if self.detector is None:
            raise LanguageError(
                "source 'auto' requires a language detector: use Translator.load(..., "
                "detector='auto'), or name the source language"
            )
        assumed = None
        if assumed_source is not None:
            assumed = (
                parse_language(assumed_source)
                if isinstance(assumed_source, str)
                else assumed_source
            )
            # A default that the model lacks is ignored; a language that the caller chose is not.
            if not self.generator.supports(assumed):
                assumed = None if assumed_source == ASSUMED_SOURCE else self.language(assumed)
        return SourceDetection(self.detector, self.generator, assumed=assumed)

    def _job(
        self,
        source: str | Language,
        target: str | Language,
        *,
        search: SearchOptions | None,
        retry: bool | RetryBudget,
        wrapped: bool,
        assumed_source: str | Language | None,
        document: SourceLanguage | None = None,
        glossary: Glossary | None = None,
        do_not_translate: Sequence[str] = (),
        placeholders: Sequence[str] | None = None,
    ) -> TranslationJob:
        target = self.language(target)
        named = None if source == AUTO else self.language(source)
        if named is not None:
            require_two_languages(named, target)
        pattern = None
        if do_not_translate or placeholders is not None:
            pattern = PlaceholderPattern(expressions=placeholders or (), terms=do_not_translate)
        return TranslationJob(
            generator=self.generator,
            detector=self.detector,
            source=named,
            detection=self._detection(assumed_source) if named is None else None,
            target=target,
            search=search or self.default_search,
            retry=retry,
            wrapped=wrapped,
            meaning=self.meaning,
            document=document,
            placeholders=pattern,
            glossary=glossary,
            aligner=self.aligner,
        )


def require_two_languages(source: Language, target: Language) -> None:
    """Check that source and target differ.

    Raises:
        LanguageError: They are the same.
    """
    if source.code == target.code:
        raise LanguageError(
            f"source and target are both {target.code} ({target.name}): name two languages"
        )


def load_detector() -> Detector:
    """Load the language detector that ships with the package.

    The detector is in the package `lid`. It is imported by name, because this package must not
    depend on `lid`.

    Raises:
        ResourceError: The detector is not installed.
    """
    try:
        detector: Detector = import_module("lid").Detector.load()
    except ImportError as error:
        raise ResourceError(f"the language detector cannot be imported: {error}") from error
    return detector


def _load_again(options: dict[str, Any], detector: Detector | None) -> Translator:
    return Translator.load(**options, detector=detector)
