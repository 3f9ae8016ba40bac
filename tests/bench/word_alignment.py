"""Accuracy of word alignment by layer and method: `python -m tests.bench word_alignment`.

For silver words, we report the share whose best linked word in the reference is correct, for
fifteen languages in nine scripts against English. There are three kinds: names (capitalized words
that occur once on both sides), numbers (the same digits once on both sides), and words of a lexicon
(Dice coefficient of at least 0.6 in Tatoeba, and PanLex's Swadesh lists), each once on both sides.
The layer and the method are chosen on Tatoeba lines that were not used for the lexicon; FLORES
devtest is only reported. Cross-attention is that of the bundled translation model with forced
references.
"""

import argparse
import json
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import regex

from tests.bench.measuring import RESULTS, environment

LANGUAGES = [
    *("fra_Latn", "deu_Latn", "spa_Latn", "fin_Latn", "tur_Latn", "ind_Latn", "rus_Cyrl"),
    *("ell_Grek", "arb_Arab", "heb_Hebr", "hin_Deva", "ben_Beng", "zho_Hans", "jpn_Jpan"),
    "kor_Hang",
]
ENGLISH = "eng_Latn"
LAYERS = tuple(range(4, 12))
DATA = Path(__file__).parents[3] / "shared" / "data"
WORD = regex.compile(r"\p{N}+(?:[.,:]\p{N}+)*|[\p{L}\p{M}\p{N}]+", flags=regex.VERSION1)
UNSPACED = ("zho_Hans", "jpn_Jpan")
MIN_DICE, MIN_COUNT, LEXICON_LINES = 0.6, 5, 40_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Silver:
    """A pair of sentences, with the positions of two words with the same meaning.

    Attributes:
        source: the English sentence.
        target: the other sentence.
        kind: name, number or lexicon.
        source_span: start and end of the word in the English sentence.
        target_span: start and end of the word in the other sentence.
    """

    source: str
    target: str
    kind: str
    source_span: tuple[int, int]
    target_span: tuple[int, int]


def read_pairs(folder: Path, language: str) -> list[tuple[str, str]]:
    """Return the English and the other lines of a bitext."""
    from nllb.io.compression import open_binary

    codes = sorted([language, ENGLISH])
    path = folder / f"{codes[0]}-{codes[1]}.tsv.zst"
    if not path.exists():
        return []
    with open_binary(path) as file:
        rows = [line.decode().rstrip("\n").split("\t") for line in file]
    english = codes.index(ENGLISH)
    return [(row[english], row[1 - english]) for row in rows if len(row) >= 2]


def make_lexicon(
    pairs: Sequence[tuple[str, str]], language: str, data: Path
) -> dict[str, set[str]]:
    """Return English words with their translations, in lower case."""
    lexicon: dict[str, set[str]] = defaultdict(set)
    if language not in UNSPACED:
        left: Counter[str] = Counter()
        right: Counter[str] = Counter()
        both: Counter[tuple[str, str]] = Counter()
        for english, foreign in pairs[:LEXICON_LINES]:
            words = set(WORD.findall(english.lower())), set(WORD.findall(foreign.lower()))
            left.update(words[0])
            right.update(words[1])
            both.update((a, b) for a in words[0] for b in words[1])
        for (a, b), count in both.items():
            if count >= MIN_COUNT and 2 * count / (left[a] + right[b]) >= MIN_DICE:
                lexicon[a].add(b)
    for a, b in read_pairs(data / "docs" / "lexicon-panlex-swadesh", language):
        if len(b) > 1:
            lexicon[a.lower()].add(b.lower())
    return lexicon


def find_silver(
    pairs: Sequence[tuple[str, str]], lexicon: dict[str, set[str]], *, limit: int
) -> list[Silver]:
    """Return silver words of pairs, at most `limit` of each kind."""
    found: dict[str, list[Silver]] = defaultdict(list)
    for english, foreign in pairs:
        if len(WORD.findall(english)) < 6:
            continue
        for match in WORD.finditer(english):
            for kind, other in _counterparts(match, foreign, lexicon):
                if len(found[kind]) < limit and english.lower().count(match[0].lower()) == 1:
                    found[kind].append(
                        Silver(
                            source=english,
                            target=foreign,
                            kind=kind,
                            source_span=match.span(),
                            target_span=other,
                        )
                    )
    return [each for kind in found for each in found[kind]]


def _counterparts(
    word: "regex.Match[str]", foreign: str, lexicon: dict[str, set[str]]
) -> Iterator[tuple[str, tuple[int, int]]]:
    text, lowered = word[0], foreign.lower()
    copied = [m.span() for m in WORD.finditer(foreign) if m[0] == text]
    if text[0].isdigit():
        if len(copied) == 1 and foreign.count(text) == 1:
            yield "numbers", copied[0]
    elif text[0].isupper() and len(text) > 3 and word.start():
        if len(copied) == 1 and foreign.count(text) == 1:
            yield "names", copied[0]
    else:
        forms = [f for f in lexicon.get(text.lower(), ()) if lowered.count(f) == 1]
        if len(forms) == 1 and forms[0] != text.lower():
            start = lowered.index(forms[0])
            end = start + len(forms[0])
            spans = {m.span() for m in WORD.finditer(foreign)}
            if (start, end) in spans or _unspaced(foreign[start:end]):
                yield "lexicon", (start, end)


def _unspaced(text: str) -> bool:
    return bool(regex.search(r"[\p{Han}\p{Hiragana}\p{Katakana}]", text))


Weights = np.ndarray[Any, Any]
Matrix = Callable[[Weights, Weights], Weights]


def encoder_matrices() -> dict[str, Matrix]:
    """Return the methods that convert the states of two texts to weights of links."""
    from nllb.inference.word_alignment import link_weights

    def mutual(a: Weights, b: Weights) -> Weights:
        a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
        cosines = a @ b.T
        best = (cosines == cosines.max(0)) & (cosines == cosines.max(1, keepdims=True))
        return best * cosines

    def centred(a: Weights, b: Weights) -> Weights:
        return mutual(a - a.mean(0), b - b.mean(0))

    def soft(temperature: float) -> Matrix:
        return lambda a, b: link_weights(a, b, temperature=temperature)

    return {
        "mutual argmax": mutual,
        "mutual argmax, centred": centred,
        **{f"softmax product {t}, centred": soft(t) for t in (0.02, 0.05, 0.1)},
    }


class EncoderWeights:
    """Word weights from every layer and method of the pretrained encoder."""

    def __init__(self) -> None:
        from nllb.inference.sentence_encoder import SentenceEncoder

        self.encoder = SentenceEncoder.load(num_threads=1)
        self.methods = encoder_matrices()

    def __call__(self, source: str, target: str) -> dict[str, Weights]:
        config = self.encoder.engine.config
        pieces = [self.encoder.tokenizer.token_spans(text)[:510] for text in (source, target)]
        sequences = [
            (config.bos_id, *(p.token_id for p in of_text), config.eos_id) for of_text in pieces
        ]
        states = self.encoder.engine.encode(sequences, layers=LAYERS).split()
        rows, columns = (
            membership([(p.start, p.end) for p in of_text], text)
            for of_text, text in zip(pieces, (source, target), strict=True)
        )
        found = {}
        for row, layer in enumerate(LAYERS):
            a, b = (x[row, 1:-1].numpy() for x in states)
            for name, method in self.methods.items():
                found[f"layer {layer}, {name}"] = words_of(method(a, b), rows, columns)
        return found


class AttentionWeights:
    """Word weights from the cross-attention of the bundled model, by decoder layer."""

    def __init__(self) -> None:
        import torch

        from nllb.model.formats.open_model import load_model, open_model

        directory = open_model("mini")
        self.torch, self.tokenizer = torch, directory.tokenizer()
        self.model = load_model(directory)
        self.seen: list[Any] = []
        for layer in self.model.decoder.layers:
            layer.cross_attention.register_forward_hook(self._keep)

    def _keep(self, module: Any, arguments: Any, output: Any) -> None:
        x, keys, _ = arguments
        queries = module._split(module.query(x))
        scores = queries @ keys.transpose(-1, -2) / queries.shape[-1] ** 0.5
        self.seen.append(scores.softmax(-1).mean(1)[0])

    def spans(self, text: str) -> list[tuple[int, int]] | None:
        """Return the positions of the model's pieces; None if the model changes the text."""
        if self.tokenizer.normalize(text) != text:
            return None
        proto = self.tokenizer._processor.encode(text, return_type="proto")
        return [(piece.begin, piece.end) for piece in proto.pieces]

    def __call__(self, source: str, target: str, language: str) -> dict[str, Weights]:
        spans = self.spans(source), self.spans(target)
        source_ids = self.tokenizer.encode_source(source, ENGLISH)
        target_ids = self.tokenizer.encode(target)
        if spans[0] is None or spans[1] is None or len(spans[0]) != len(source_ids) - 2:
            return {}
        if len(spans[1]) != len(target_ids):
            return {}
        self.seen.clear()
        prompt = self.tokenizer.decoder_start(language)
        with self.torch.inference_mode():
            self.model(self.torch.tensor([source_ids]), self.torch.tensor([[*prompt, *target_ids]]))
        found = {}
        rows, columns = membership(spans[0], source), membership(spans[1], target)
        for number, attention in enumerate(self.seen):
            # The step that outputs a token precedes the step that reads it.
            steps = attention[1:-1, 1:-1].numpy()
            found[f"cross-attention, decoder layer {number + 1}"] = words_of(steps.T, rows, columns)
        return found


def words_of(weights: Weights, rows: Weights, columns: Weights) -> Weights:
    """Return weights between pieces as weights between words."""
    return rows.T @ np.where(weights > 0.001, weights, 0) @ columns


def membership(pieces: Sequence[tuple[int, int]], text: str) -> Weights:
    """Return the words that each piece touches, as a matrix of 0 and 1."""
    from nllb.translation.projection import _touched, find_words

    words = find_words(text)
    found = np.zeros((len(pieces), len(words)))
    for row, (start, end) in enumerate(pieces):
        found[row, _touched(words, start, end)] = start < end
    return found


def is_right(weights: Weights, silver: Silver) -> bool:
    """Return whether the silver word's best target word is correct."""
    from nllb.translation.projection import _touched, find_words

    row = weights[_touched(find_words(silver.source), *silver.source_span)].sum(0)
    right = _touched(find_words(silver.target), *silver.target_span)
    return bool(row.any()) and right.start <= int(row.argmax()) < right.stop


def measure(silver: Sequence[Silver], language: str, encoder: Any, attention: Any) -> Any:
    """Return the numbers of correct and of all words by method and kind."""
    counts: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0]))
    cache: dict[tuple[str, str], dict[str, Weights]] = {}
    for each in silver:
        key = each.source, each.target
        if key not in cache:
            found = encoder(*key)
            if attention is not None:
                crossed = attention(*key, language)
                last = list(crossed)[-1:]
                for name in last:
                    for layer in LAYERS:
                        soft = f"layer {layer}, softmax product 0.1, centred"
                        found[f"{name} x {soft}"] = crossed[name] * found[soft]
                found |= crossed
            cache[key] = found
        for name, weights in cache[key].items():
            count = counts[name][each.kind]
            count[0] += is_right(weights, each)
            count[1] += 1
    return counts


def main(argv: list[str] | None = None) -> int:
    """Measure, print and write tests/bench/results/word_alignment.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=60, help="words of each kind and language")
    parser.add_argument("--no-attention", action="store_true")
    arguments = parser.parse_args(argv)
    from nllb.io.benchmarks import load_flores

    data = Path(os.environ.get("NLLB_TEST_DATA", DATA))
    flores = load_flores(data / "flores200_dataset", "devtest")
    encoder = EncoderWeights()
    attention = None if arguments.no_attention else AttentionWeights()
    results: dict[str, Any] = {"chosen on tatoeba": {}, "reported on flores": {}}
    for language in LANGUAGES:
        pairs = read_pairs(data / "tatoeba", language)
        lexicon = make_lexicon(pairs, language, data)
        held_out = pairs[LEXICON_LINES:] or pairs[-2000:]
        devtest = list(zip(flores.sentences(ENGLISH), flores.sentences(language), strict=True))
        for part, lines in (("chosen on tatoeba", held_out), ("reported on flores", devtest)):
            silver = find_silver(lines, lexicon, limit=arguments.limit)
            results[part][language] = measure(silver, language, encoder, attention)
        print(language, {k: len(v) for k, v in lexicon.items() if k == "water"}, flush=True)
    summary = {part: summarize(counts) for part, counts in results.items()}
    for part, rows in summary.items():
        print(part)
        best = sorted(rows.items(), key=lambda row: -row[1]["mean"])
        for name, row in best[:12] + [r for r in best[12:] if "cross" in r[0]][:4]:
            print(f"  {row['mean']:5.1f} {name}: " + str(row["kinds"]))
    document = {"environment": environment(limit=arguments.limit), "summary": summary}
    # The counts of all methods would fill megabytes; only the compared ones are stored.
    chosen = max(summary["chosen on tatoeba"].items(), key=lambda row: row[1]["mean"])[0]
    crossed = [name for name in summary["chosen on tatoeba"] if "cross" in name]
    kept = {chosen, *(name for name in crossed if " x " not in name or chosen in name)}
    document["chosen"] = chosen
    document["right and all words"] = {
        part: {
            language: {name: kinds for name, kinds in counts.items() if name in kept}
            for language, counts in of_part.items()
        }
        for part, of_part in results.items()
    }
    (RESULTS / "word_alignment.json").write_text(json.dumps(document, indent=1) + "\n")
    return 0


def summarize(counts: dict[str, Any]) -> dict[str, Any]:
    """Return the mean over kinds and languages, and the share of each kind, for each method."""
    rows: dict[str, Any] = {}
    for name in {method for of_language in counts.values() for method in of_language}:
        shares: dict[str, list[float]] = defaultdict(list)
        for of_language in counts.values():
            for kind, (right, total) in of_language.get(name, {}).items():
                if total >= 5:
                    shares[kind].append(100 * right / total)
        kinds = {kind: round(sum(x) / len(x), 1) for kind, x in sorted(shares.items())}
        rows[name] = {"mean": round(sum(kinds.values()) / max(1, len(kinds)), 2), "kinds": kinds}
    return rows


if __name__ == "__main__":
    sys.exit(main())
