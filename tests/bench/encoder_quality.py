"""Quality of the shipped encoder: `python -m tests.bench encoder_quality`.

On FLORES devtest, which was not used for any choice: tokens and unknown tokens of each language
with the complete vocabulary of the source file (`--source`, if available) and with the trimmed one,
and the xsim error to English (ratio margin, four neighbours) of fifteen languages, in int8.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.bench.measuring import RESULTS, environment

XSIM = [
    *("fra_Latn", "deu_Latn", "spa_Latn", "rus_Cyrl", "arb_Arab", "hin_Deva", "fin_Latn"),
    *("tur_Latn", "swh_Latn", "ind_Latn", "zho_Hans", "jpn_Jpan", "mri_Latn", "lij_Latn"),
    "ban_Latn",
]
PIVOT = "eng_Latn"
DATA = Path(__file__).parents[3] / "shared" / "data"


def whole_tokenizer(source: Path) -> Any:
    """Return the tokenizer of an E5S1 file with all of its pieces."""
    from nllb.model.encoder_normalization import CharacterMap
    from nllb.model.encoder_tokenizer import EncoderTokenizer
    from nllb.model.formats.e5_file import open_e5_file, scored_pieces, with_pieces_only

    file = open_e5_file(source)
    return EncoderTokenizer.build(
        scored_pieces(file), CharacterMap(file.replacements), with_pieces_only(file)
    )


def count_tokens(tokenizer: Any, lines: list[str]) -> dict[str, float]:
    """Return the number of tokens of lines, and the percentage of unknown ones."""
    ids = [number for row in tokenizer.encode_batch(lines) for number in row]
    return {
        "tokens": len(ids),
        "unknown_percent": 100 * ids.count(tokenizer.config.unk_id) / len(ids),
    }


def main(argv: list[str] | None = None) -> int:
    """Measure, print and write tests/bench/results/encoder_quality.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, help="the E5S1 file that the encoder was made from")
    parser.add_argument("--lines", type=int, default=1012, help="lines of each language")
    parser.add_argument("--dtype", default="int8")
    arguments = parser.parse_args(argv)
    from data_pipeline.mining.xsim import error_rates
    from nllb.inference.sentence_encoder import SentenceEncoder
    from nllb.io.benchmarks import load_flores

    data = Path(os.environ.get("NLLB_TEST_DATA", DATA))
    flores = load_flores(data / "flores200_dataset", "devtest")
    encoder = SentenceEncoder.load(dtype=arguments.dtype)
    whole = whole_tokenizer(arguments.source) if arguments.source else None
    tokens = {}
    for code in flores.languages:
        lines = list(flores.sentences(code))[: arguments.lines]
        tokens[code] = {"trimmed": count_tokens(encoder.tokenizer, lines)}
        if whole is not None:
            tokens[code]["whole"] = count_tokens(whole, lines)
    pivots = encoder.encode(list(flores.sentences(PIVOT))[: arguments.lines]).vectors
    errors = {}
    for code in XSIM:
        vectors = encoder.encode(list(flores.sentences(code))[: arguments.lines]).vectors
        forward, backward = error_rates(vectors, pivots)
        errors[code] = {"to_english": 100 * forward, "from_english": 100 * backward}
        print(
            f"{code}: {100 * forward:.1f} % to English, {100 * backward:.1f} % from it", flush=True
        )
    mean = sum(error["to_english"] for error in errors.values()) / len(errors)
    print(f"mean to English: {mean:.2f} %")
    result = {
        "environment": environment(dtype=arguments.dtype, lines=arguments.lines),
        "xsim_error_percent": errors,
        "xsim_mean_to_english": mean,
        "tokens": tokens,
    }
    path = RESULTS / "encoder_quality.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
