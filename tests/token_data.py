"""Small token shards with a manifest, made of names of languages: what training reads."""

import hashlib
import io
import random
from pathlib import Path

import sentencepiece

from nllb.io.manifest import (
    CorpusRecord,
    DataOrigin,
    Manifest,
    Phase,
    ShardGroup,
    Split,
    TrainingDirection,
    VocabularyRecord,
    sampling_weights,
    write_manifest,
)
from nllb.io.shards import write_token_shard
from nllb.languages import languages
from nllb.model.tokenizer import Tokenizer

CODES = ("deu_Latn", "eng_Latn", "fra_Latn")
TAGS = ("<MINED_DATA>", "<MMT_BT_DATA>", "<SMT_BT_DATA>")
TRAIN_PAIRS = {("eng_Latn", "fra_Latn"): 400, ("eng_Latn", "deu_Latn"): 90}


def write_token_data(folder: Path) -> Path:
    """Write vocabulary, shards and manifest into a folder and return it."""
    names = [language.name for language in languages()]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(names),
        model_writer=model,
        model_type="bpe",
        vocab_size=300,
        character_coverage=1.0,
        num_threads=1,
        minloglevel=2,
    )
    (folder / "spm.model").write_bytes(model.getvalue())
    tokenizer = Tokenizer.build(folder / "spm.model", CODES).with_mask()
    chance = random.Random(0)

    def sentences(count: int) -> list[tuple[list[int], list[int]]]:
        """Return pairs whose target is the source backwards."""
        pairs = []
        for _ in range(count):
            words = chance.sample(names, chance.randint(1, 6))
            pairs.append(
                (tokenizer.encode(" ".join(words)), tokenizer.encode(" ".join(words[::-1])))
            )
        return pairs

    parts = []
    origins: list[DataOrigin] = ["primary", "mined"]
    for origin, ((source, target), count) in zip(origins, TRAIN_PAIRS.items(), strict=True):
        splits: list[tuple[Split, int]] = [("train", count), ("valid", 12)]
        for split, size in splits:
            halves = [sentences(size // 2), sentences(size - size // 2)]
            files = tuple(
                write_token_shard(
                    folder / f"{source}-{target}.{split}.{number}.tokens",
                    [[pair[0] for pair in half], [pair[1] for pair in half]],
                    vocabulary_size=tokenizer.vocabulary_size,
                )
                for number, half in enumerate(halves)
            )
            parts.append(
                ShardGroup(source=source, target=target, origin=origin, split=split, files=files)
            )
    file = write_token_shard(
        folder / "eng_Latn.denoising.tokens",
        [[pair[0] for pair in sentences(60)]],
        vocabulary_size=tokenizer.vocabulary_size,
    )
    parts.append(
        ShardGroup(
            source="eng_Latn", target="eng_Latn", origin="denoising", split="train", files=(file,)
        )
    )
    sizes = {("eng_Latn", "eng_Latn"): 60}
    for (source, target), count in TRAIN_PAIRS.items():
        sizes |= {(source, target): count, (target, source): count}
    ordered = sorted(sizes, key=lambda pair: -sizes[pair])
    weights = sampling_weights([sizes[pair] for pair in ordered], 1.5)
    directions = tuple(
        TrainingDirection(source=pair[0], target=pair[1], num_pairs=sizes[pair], weight=weight)
        for pair, weight in zip(ordered, weights, strict=True)
    )
    all_names = tuple(direction.name for direction in directions)
    manifest = Manifest(
        format_version=1,
        vocabulary=VocabularyRecord(
            file="spm.model",
            sha256=hashlib.sha256(model.getvalue()).hexdigest(),
            name="spm:standin",
            num_pieces=300,
            languages=CODES,
            tags=TAGS,
            size=tokenizer.vocabulary_size,
        ),
        temperature=1.5,
        parts=tuple(parts),
        directions=directions,
        phases=(
            Phase(until_step=40, directions=all_names[:2]),
            Phase(until_step=None, directions=all_names),
        ),
        corpora=(CorpusRecord(name="names", origin="primary", licence="CC0", num_pairs=490),),
        made_by={"version": "test"},
        directory=folder,
    )
    write_manifest(manifest)
    return folder
