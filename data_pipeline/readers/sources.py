"""The files of a corpus, and the language pair that each of them contains."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path

from data_pipeline.data_config import CorpusConfig, DataConfig
from nllb.config.templates import fill_template
from nllb.errors import DataError, LanguageError
from nllb.io.corpora import Corpus, open_corpus
from nllb.languages import Language, parse_language

DEFAULT_PIVOT = "eng_Latn"


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """The files of one language pair of one corpus.

    Attributes:
        corpus: the corpus.
        source: FLORES-200 code of the source side.
        target: FLORES-200 code of the target side; empty for documents.
        paths: files that are read; for moses the source file and the target file.
        spelled: both language codes as the corpus spells them.
    """

    corpus: CorpusConfig
    source: str
    target: str
    paths: tuple[Path, ...]
    spelled: tuple[str, str]

    @property
    def name(self) -> str:
        """`corpus/SOURCE-TARGET`, or `corpus/SOURCE` for documents."""
        pair = f"{self.source}-{self.target}" if self.target else self.source
        return f"{self.corpus.name}/{pair}"

    def layout(self) -> Corpus:
        """Open the folder of a corpus in a layout of `nllb.io.corpora`."""
        folder = next(path for path in self.paths if path.is_dir())
        return open_corpus(folder, layout=self.corpus.layout, name=self.corpus.name)


def find_sources(
    config: DataConfig, *, monolingual: bool = False
) -> tuple[tuple[Source, ...], dict[str, list[str]]]:
    """Return all sources in order, and the languages that were skipped, by corpus.

    Args:
        config: the configuration.
        monolingual: whether to find documents instead of bitext.

    Raises:
        DataError: if a corpus does not match any file, or two files have the same language pair.
        LanguageError: if a file name contains an unknown code and the configuration does not skip
            such files.
    """
    found: list[Source] = []
    skipped: dict[str, list[str]] = {}
    finders = {"layout": _layout_sources, "lines": _document_sources, "jsonl": _document_sources}
    corpora = config.corpora
    if monolingual:
        finders["layout"] = _document_sources
        corpora = config.monolingual.corpora if config.monolingual is not None else ()
    for corpus in corpora:
        unknown: list[str] = []
        finder = finders.get(corpus.format, _file_sources)
        sources = sorted(finder(corpus, config.data_dir, unknown), key=lambda source: source.name)
        if not sources:
            raise DataError(
                f"corpus {corpus.name!r}: no files match {config.data_dir / corpus.path}"
                + (f" with a known language ({len(unknown)} skipped)" if unknown else "")
                + "; check `data_dir`, `path` and `languages`"
            )
        for before, after in pairwise(sources):
            if before.name == after.name:
                raise DataError(
                    f"{before.paths[0]} and {after.paths[0]} are both {before.name}; "
                    "restrict `languages`, or define two corpora for them"
                )
        found += sources
        if unknown:
            skipped[corpus.name] = sorted(set(unknown))
    return tuple(found), skipped


def _file_sources(corpus: CorpusConfig, data_dir: Path, unknown: list[str]) -> Iterator[Source]:
    """Match the path template against the existing files."""
    places = list(dict.fromkeys(re.findall(r"{(\w+)}", corpus.path)))
    pair_places = [place for place in places if place != "language"]
    if not pair_places:
        yield from _fixed_pair(corpus, data_dir)
        return
    # For moses, the source file is searched for; the name of the target file follows from it.
    template = corpus.path.replace("{language}", "{source}")
    pattern = re.escape(template).replace(r"\*", "[^/]*")
    for place in pair_places:
        named = re.escape("{" + place + "}")
        pattern = pattern.replace(named, f"(?P<{place}>[A-Za-z_]+)", 1)
        pattern = pattern.replace(named, f"(?P={place})")
    for path in sorted(data_dir.glob(re.sub(r"{\w+}", "*", template))):
        matched = re.fullmatch(pattern, path.relative_to(data_dir).as_posix())
        if matched is None:
            continue
        spelled = (matched["source"], matched["target"])
        pair = _codes(corpus, spelled, path, unknown)
        if pair is None:
            continue
        paths: tuple[Path, ...] = (path,)
        if corpus.format == "moses":
            paths = tuple(
                data_dir
                / fill_template(
                    corpus.path, {"source": spelled[0], "target": spelled[1], "language": language}
                )
                for language in spelled
            )
        yield Source(corpus=corpus, source=pair[0], target=pair[1], paths=paths, spelled=spelled)


def _fixed_pair(corpus: CorpusConfig, data_dir: Path) -> Iterator[Source]:
    source, target = corpus.languages
    if corpus.format == "moses":
        sides = [_moses_file(corpus, data_dir, language) for language in corpus.languages]
        paths = tuple(path for _, path in sides)
        spelled = (sides[0][0], sides[1][0])
    else:
        path = data_dir / corpus.path
        if not path.is_file():
            raise DataError(f"corpus {corpus.name!r}: the file {path} does not exist")
        paths, spelled = (path,), (source.code, target.code)
    yield Source(
        corpus=corpus, source=source.code, target=target.code, paths=paths, spelled=spelled
    )


def _files_by_language(corpus: CorpusConfig, data_dir: Path) -> list[tuple[str, Path]]:
    """Return the files that match a path with {language}, each with the code in its name."""
    if Path(corpus.path).is_absolute():
        return []
    pattern = re.escape(corpus.path)
    named = re.escape("{language}")
    pattern = pattern.replace(named, "(?P<language>[A-Za-z_-]+)", 1)
    pattern = pattern.replace(named, "(?P=language)")
    found = []
    for path in sorted(data_dir.glob(corpus.path.replace("{language}", "*"))):
        matched = re.fullmatch(pattern, path.relative_to(data_dir).as_posix())
        if matched is not None and path.is_file():
            found.append((matched["language"], path))
    return found


def _moses_file(corpus: CorpusConfig, data_dir: Path, language: Language) -> tuple[str, Path]:
    """Return the spelled code and the file of a language; `train.en` is a file of eng_Latn."""
    expected = data_dir / corpus.path.replace("{language}", language.code)
    if expected.is_file():
        return language.code, expected
    found = _files_by_language(corpus, data_dir)
    matching = {spelled: path for spelled, path in found if _is_code_of(spelled, language)}
    if len(matching) == 1:
        return next(iter(matching.items()))
    if matching:
        raise DataError(
            f"corpus {corpus.name!r}: several files of {language.code}: "
            f"{', '.join(path.name for path in matching.values())}; keep one of them, or name it "
            f"{expected.name}"
        )
    raise DataError(
        f"corpus {corpus.name!r}: there is no file of {language.code}: {expected} does not exist, "
        "nor a file with another code of that language, such as an ISO 639 code"
    )


def _is_code_of(spelled: str, language: Language) -> bool:
    try:
        return parse_language(spelled) == language
    except LanguageError:
        return False


def _layout_sources(corpus: CorpusConfig, data_dir: Path, unknown: list[str]) -> Iterator[Source]:
    """Return the pairs that a folder stores, or each language paired with the pivots."""
    opened = open_corpus(data_dir / corpus.path, layout=corpus.layout, name=corpus.name)
    if opened.layout in ("pairs", "tables"):
        pairs = sorted({(codes[0], codes[1]) for _, codes in opened.files()})
    else:
        pivots = {pivot.code for pivot in corpus.pivots} or {DEFAULT_PIVOT}
        languages = opened.languages()
        pairs = [
            (pivot, other)
            for pivot, other in product(sorted(pivots), languages)
            if other != pivot and (other not in pivots or pivot < other)
        ]
    for spelled in pairs:
        pair = _codes(corpus, spelled, opened.directory, unknown)
        if pair is not None:
            yield Source(
                corpus=corpus,
                source=pair[0],
                target=pair[1],
                paths=(opened.directory, *_layout_paths(opened, spelled)),
                spelled=spelled,
            )


def _document_sources(corpus: CorpusConfig, data_dir: Path, unknown: list[str]) -> Iterator[Source]:
    """Find the documents of each language."""
    found: list[tuple[str, tuple[Path, ...]]] = []
    if corpus.format == "layout":
        opened = open_corpus(data_dir / corpus.path, layout=corpus.layout, name=corpus.name)
        for spelled in opened.languages():
            files = [path for path, codes in opened.files() if spelled in codes]
            found.append((spelled, (opened.directory, *files)))
    else:
        found += [(spelled, (path,)) for spelled, path in _files_by_language(corpus, data_dir)]
    for spelled, paths in found:
        pair = _codes(corpus, (spelled, spelled), paths[0], unknown)
        if pair is not None:
            yield Source(
                corpus=corpus, source=pair[0], target="", paths=paths, spelled=(spelled, "")
            )


def _layout_paths(opened: Corpus, spelled: tuple[str, str]) -> list[Path]:
    if opened.layout in ("pairs", "tables"):
        return [path for path, codes in opened.files() if set(codes) == set(spelled)]
    return [path for path, codes in opened.files() if codes[0] in spelled]


def _codes(
    corpus: CorpusConfig, spelled: tuple[str, str], path: Path, unknown: list[str]
) -> tuple[str, str] | None:
    """Return the codes of a pair, or None if the configuration excludes the pair."""
    try:
        source, target = (parse_language(code, choose_script=False) for code in spelled)
    except LanguageError as error:
        if corpus.unknown_languages == "error" and not corpus.languages:
            raise LanguageError(
                f"{path}: {error}; `unknown_languages: skip` skips such files"
            ) from None
        unknown.append("-".join(dict.fromkeys(spelled)))
        return None
    if corpus.languages and not {source, target} <= set(corpus.languages):
        return None
    if corpus.pivots and not {source, target} & set(corpus.pivots):
        return None
    return source.code, target.code
