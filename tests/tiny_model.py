"""A tiny English-Italian translation model, trained on real Tatoeba pairs in under two minutes.

It has read few thousand short sentences: it knows some by heart, and translates new ones badly but
not at random, which is enough to see what int8 or a shortlist cost. English-Spanish it knows from
a handful of sentences only. One thread, fixed seeds, a fixed number of steps.
"""

import fcntl
import hashlib
import json
import random
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import sentencepiece
import torch
from torch import Tensor
from torch.nn import functional

from nllb.io.text import read_lines
from nllb.model.configuration import ModelConfig
from nllb.model.formats.hugging_face import write_hugging_face
from nllb.model.tokenizer import PAD_ID, Tokenizer
from nllb.model.transformer import Transformer

SOURCE, TARGET, OTHER_TARGET = "eng_Latn", "ita_Latn", "spa_Latn"
MAX_WORDS = 6
HELD_OUT = 1000
TRAINED = 8000
BY_HEART = 16
BY_HEART_COPIES = 12
VOCABULARY = 1600
STEPS = 1600
BATCH_TOKENS = 500
PEAK_RATE = 3e-3
WARM_UP_STEPS = 100


@dataclass(frozen=True, kw_only=True)
class TinyModel:
    """A trained model directory and what it was and was not trained on."""

    directory: Path
    """The model in the Hugging Face layout."""
    by_heart: dict[str, list[tuple[str, str]]]
    """Target language -> pairs that it saw so often that it knows them."""
    held_out: list[tuple[str, str]]
    """Pairs into `TARGET` of which it saw neither side."""
    target_text: list[str]
    """The training text of `TARGET`, for a shortlist."""


def tiny_model(data_dir: Path, cache_dir: Path) -> TinyModel:
    """Return the model, trained once for all workers of a test run."""
    digest = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    home = cache_dir / f"nllb-tiny-model-{digest}"
    home.mkdir(exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        record = home / "record.json"
        if not record.exists():
            made = _make(data_dir, home / "model")
            record.write_text(json.dumps(asdict(made) | {"directory": "model"}))
        values = json.loads(record.read_text())
    pairs = {code: [(s, t) for s, t in rows] for code, rows in values["by_heart"].items()}
    return TinyModel(
        directory=home / values["directory"],
        by_heart=pairs,
        held_out=[(s, t) for s, t in values["held_out"]],
        target_text=values["target_text"],
    )


def _make(data_dir: Path, directory: Path) -> TinyModel:
    pairs, others = (_pairs(data_dir, target) for target in (TARGET, OTHER_TARGET))
    held_out = pairs[:HELD_OUT]
    held_texts = {text for pair in held_out for text in pair}
    candidates = [pair for pair in pairs[HELD_OUT:] if held_texts.isdisjoint(pair)]
    train = candidates[:TRAINED]
    by_heart = {
        TARGET: _unambiguous(train)[:BY_HEART],
        OTHER_TARGET: _unambiguous(others)[:BY_HEART],
    }
    target_text = [target for _, target in train]
    texts = [text for pair in (*train, *others[: len(train) // 4]) for text in pair]
    vocabulary = directory.with_name("vocabulary")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_prefix=str(vocabulary),
        vocab_size=VOCABULARY,
        model_type="bpe",
        character_coverage=1.0,
        num_threads=1,
        minloglevel=2,
    )
    codes = [SOURCE, TARGET, OTHER_TARGET]
    tokenizer = Tokenizer.build(vocabulary.with_suffix(".model"), codes)
    examples = [_example(tokenizer, *pair, TARGET) for pair in train]
    for target, rows in by_heart.items():
        examples += [_example(tokenizer, *pair, target) for pair in rows] * BY_HEART_COPIES
    model = _train(tokenizer, examples)
    write_hugging_face(
        directory, model.config, model.state_dict(), tokenizer, settings={"licence": "test only"}
    )
    return TinyModel(
        directory=directory, by_heart=by_heart, held_out=held_out, target_text=target_text
    )


def _pairs(data_dir: Path, target: str) -> list[tuple[str, str]]:
    path = data_dir / "tatoeba" / f"{SOURCE}-{target}.tsv.zst"
    pairs = [(row[0], row[1]) for row in (line.split("\t") for line in read_lines(path))]
    short = [pair for pair in pairs if max(len(text.split()) for text in pair) <= MAX_WORDS]
    random.Random(0).shuffle(short)
    return short


def _unambiguous(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return pairs of four words or more whose source stands in no other pair."""
    counts = Counter(source for source, _ in pairs)
    return [pair for pair in pairs if counts[pair[0]] == 1 and len(pair[0].split()) >= 4]


Example = tuple[list[int], list[int]]


def _example(tokenizer: Tokenizer, source: str, target: str, code: str) -> Example:
    return tokenizer.encode_source(source, SOURCE), tokenizer.encode_target(target, code)


def _train(tokenizer: Tokenizer, examples: list[Example]) -> Transformer:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = _new_model(tokenizer.layout.size)
            _run_steps(model, examples)
    finally:
        torch.set_num_threads(threads)
    return model.eval()


def _new_model(vocabulary_size: int) -> Transformer:
    model = Transformer(
        ModelConfig(
            vocabulary_size=vocabulary_size,
            model_dim=128,
            encoder_layers=2,
            decoder_layers=1,
            encoder_heads=4,
            decoder_heads=4,
            encoder_ffn_dim=512,
            decoder_ffn_dim=512,
            dropout=0.0,
            attention_dropout=0.0,
        )
    )
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.xavier_uniform_(parameter)
    torch.nn.init.normal_(model.embedding.weight, std=model.config.model_dim**-0.5)
    return model


def _run_steps(model: Transformer, examples: list[Example]) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.01)
    model.train()
    step = 0
    chosen = random.Random(1)
    while step < STEPS:
        for batch in _batches(examples, chosen):
            source_BS = _pad([source for source, _ in batch])
            target_BT = _pad([target for _, target in batch])
            start_B1 = torch.full((len(batch), 1), model.config.decoder_start_id)
            logits_BTV = model(source_BS, torch.cat([start_B1, target_BT[:, :-1]], 1))
            # The language token is given, never predicted.
            loss = functional.cross_entropy(
                logits_BTV[:, 1:].flatten(0, 1),
                target_BT[:, 1:].flatten(),
                ignore_index=PAD_ID,
                label_smoothing=0.1,
            )
            rate = PEAK_RATE * min((step + 1) / WARM_UP_STEPS, 1, (STEPS - step) / STEPS + 0.02)
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
            if step == STEPS:
                return


def _batches(examples: list[Example], chosen: random.Random) -> list[list[Example]]:
    """Return batches of similar length, in random order."""
    ordered = sorted(examples, key=lambda pair: (len(pair[1]), len(pair[0]), chosen.random()))
    batches: list[list[Example]] = [[]]
    for example in ordered:
        if (len(batches[-1]) + 1) * len(example[1]) > BATCH_TOKENS:
            batches.append([])
        batches[-1].append(example)
    chosen.shuffle(batches)
    return batches


def _pad(rows: list[list[int]]) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [PAD_ID] * (longest - len(row)) for row in rows])
