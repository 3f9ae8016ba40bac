"""The translator: texts in, translations with a trust record for each segment out.

    translator = Translator.load("facebook/nllb-200-distilled-600M")
    translator.translate("Hello. How are you?", "en", "fr").text

Languages are arguments of every call, never state. Newlines, indentation, list markers and white
space are kept, so a whole document can be given as one text.
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
from nllb.model.coverage import models_that_cover

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
"""Source language of text that the detector cannot identify, unless the caller names another."""


class Translator:
    """Translates between any two languages of a model. One object serves any number of calls.

    A translator made by `load` can be pickled: the copy loads the same model by its name or path.

    Attributes:
        generator: Translates single segments.
        detector: Identifies languages: needed for `source="auto"`; with it the language of each
            output is checked, too. None if there is none.
        meaning: Compares outputs with their sources, for the flag `meaning`; None does not.
        aligner: Aligns the words of texts and translations, which places markup and placeholders;
            None leaves these to their relative positions.
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
        """Wrap a generator; `Translator.load` makes one from a model.

        Args:
            generator: Translates single segments.
            detector: Identifies languages.
            meaning: Compares outputs with their sources.
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
                the package; None is the default model of `nllb translate`.
            device: `cpu`, `cuda`, or `auto`: a GPU if there is one.
            dtype: Type of the weights in memory; `auto` is int8 on a CPU and bfloat16 on a GPU.
            detector: Identifies languages; `auto` loads the one that ships with the package.
            expert_memory: Bytes for the experts of a mixture-of-experts model, which are then read
                from the file when they are needed; None keeps all of them in memory.
            num_threads: Threads on a CPU; None uses all processors.
            similarity: Compare outputs with their sources by the shipped sentence encoder, for the
                flag `meaning`. The encoder is loaded at the first translation.
            report: Called with what the model needs, before anything large is read.

        Raises:
            CheckpointError: There is no such model, or it cannot be read.
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
        """Pickle the name of the model and the options that it was loaded with, not its weights."""
        if self._loaded_with is None:
            raise TypeError(
                "this Translator wraps a generator object and cannot be pickled; one that "
                "Translator.load has made can: it is loaded again, by name, where it is unpickled"
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
            text: Any text: a sentence, a line, a document with its newlines. A list gives a list.
            source: Its language (`en`, `eng_Latn`, `English`), or `auto` to detect it. In a text of
                several lines each line may have its own; lines in the target language are kept.
            target: The language to translate into.
            search: How outputs are searched for; by default with the options that the model's
                `generation_config.json` has, or else beam search with four beams.
            retry: Whether outputs that loop, stop early or are in the wrong language are tried
                again; a `RetryBudget` limits the retries of several calls together.
            wrapped: The text was wrapped at a fixed width: sentences go on after the ends of full
                lines, which come back at the same share of their length. Otherwise every newline
                is hard.
            assumed_source: With `auto`, the language of text that the detector cannot identify; its
                segments are flagged `uncertain_source`. None raises an error instead.
            glossary: Terms and their translations, which outputs have to use.
            do_not_translate: Terms that every output keeps as they are.
            placeholders: Regular expressions of further placeholders. Placeholders (addresses,
                `{name}`, `%s` and the like) are kept whatever the model does if this is given, even
                if it is empty, or if there are terms that are not translated.

        Raises:
            ConfigError: An expression is not valid.
            LanguageError: A language is unknown, not in the model, or could not be detected; or
                source and target are the same.
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
        """Translate lines one after the other in bounded memory; one translation for each line.

        At most `look_ahead` lines are read before their translations are returned: with 1, each
        line is answered before the next is read. The first windows are small, so that output
        begins early.

        Raises:
            LanguageError: At once, not at the first line; or later, if detection failed.
            SegmentError: A segment has no output; the lines before its window were returned.
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
        """Translate texts that come in windows; each window is answered before the next is read.

        `document` is the main language of a document whose lines the texts are, as `detect_source`
        returns it; it only matters with the source `auto`.
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
        """Translate texts that have a private-use character in place of each placeholder.

        The translations have the same characters, each as often as its text. Documents are
        translated this way, because their codes are placeholders, too.
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
            LanguageError: There is no such language, or the model does not have it.
        """
        language = text if isinstance(text, Language) else parse_language(text)
        if not self.generator.supports(language):
            known = [each.code for each in languages() if self.generator.supports(each)]
            shown = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
            raise LanguageError(
                f"the model does not cover {language.code} ({language.name}); "
                f"it covers {len(known)} languages: {shown} (nllb languages --model M lists them); "
                f"{models_that_cover(language)}"
            )
        return language

    def detect(self, text: str) -> tuple[Language, float] | None:
        """Return the source language of a text and its probability; None without letters.

        Text that the detector cannot identify is taken for English.

        Raises:
            LanguageError: There is no detector, or it names no language of the model.
        """
        source = self.detect_source(text)
        return None if source.language is None else (source.language, source.probability or 0.0)

    def detect_source(
        self, text: str, *, assumed_source: str | Language | None = ASSUMED_SOURCE
    ) -> SourceLanguage:
        """Return the source language of a text, and how it was determined.

        Raises:
            LanguageError: There is no detector, or it names no language of the model.
        """
        [source] = self._detection(assumed_source).of_texts([text])
        return source

    def _detection(self, assumed_source: str | Language | None) -> SourceDetection:
        if self.detector is None:
            raise LanguageError(
                "source 'auto' needs a language detector: Translator.load(..., detector='auto'); "
                "or name the source language"
            )
        assumed = None
        if assumed_source is not None:
            assumed = (
                parse_language(assumed_source)
                if isinstance(assumed_source, str)
                else assumed_source
            )
            # The default gives way where a model lacks it; a language that was named does not.
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

    It lies in the package `lid`, which this package must not depend on; it is imported by name.

    Raises:
        ResourceError: It is not installed.
    """
    try:
        detector: Detector = import_module("lid").Detector.load()
    except ImportError as error:
        raise ResourceError(f"the language detector cannot be imported: {error}") from error
    return detector


def _load_again(options: dict[str, Any], detector: Detector | None) -> Translator:
    return Translator.load(**options, detector=detector)
