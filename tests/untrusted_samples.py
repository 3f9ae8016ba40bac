"""Small whole samples of each kind of file that may come from someone else, and their openers.

Tests damage copies of them. Each sample is a folder; opening it reads all of its files and does
with them what a user would.
"""

import argparse
import io
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy
import sentencepiece
import torch
from safetensors.torch import save_file

WORDS = "the house is small and an old man lives in it by the river where the dog sleeps".split()
LANGUAGES = ["eng_Latn", "fra_Latn"]
TEXT = "the old house by the river"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One kind of folder."""

    name: str
    """Name of the kind."""
    folder: Path
    """A whole folder of it."""
    open: Callable[[Path], Any]
    """Opens a folder, damaged or not."""


def make_samples(folder: Path) -> list[Sample]:
    """Write all samples below a folder."""
    makers: dict[str, tuple[Callable[[Path], None], Callable[[Path], Any]]] = {
        "hugging face": (_make_hugging_face, open_model_directory),
        "tokenizer.json": (_make_tokenizer_json, open_model_directory),
        "m2m-100": (_make_m2m, open_model_directory),
        "int8 shards": (_make_int8, open_model_directory),
        "torch weights": (_make_torch_weights, open_model_directory),
        "fairseq": (_make_fairseq, open_fairseq_file),
        "fairseq before 1.6": (_make_legacy_fairseq, open_fairseq_file),
        "laser2": (_make_laser2, open_laser),
        "laser3": (_make_laser3, open_laser),
        "static encoder": (_make_static_encoder, open_static_encoder),
        "e5 file": (_make_e5_file, open_e5),
        "pretrained encoder": (_make_pretrained_encoder, open_pretrained_encoder),
        "detector": (_make_detector, open_detector),
        "token shards": (_make_token_shards, open_token_shards),
        "training checkpoint": (_make_training_checkpoint, open_training_checkpoint),
        "evaluation": (_make_evaluation, open_evaluation),
    }
    samples = []
    for name, (make, opener) in makers.items():
        path = folder / name.replace(" ", "-")
        path.mkdir(parents=True)
        make(path)
        samples.append(Sample(name=name, folder=path, open=opener))
    return samples


def piece_model() -> bytes:
    """Return a SentencePiece model of few bytes."""
    stream = io.BytesIO()
    draw = random.Random(0)
    lines = [" ".join(draw.choices(WORDS, k=6)) for _ in range(300)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=stream,
        vocab_size=60,
        hard_vocab_limit=False,
        normalization_rule_name="identity",
        num_threads=1,
        minloglevel=2,
    )
    return stream.getvalue()


def _model(size: int) -> Any:
    from nllb.model.configuration import ModelConfig
    from nllb.model.transformer import Transformer

    torch.manual_seed(0)
    config = ModelConfig(
        vocabulary_size=size,
        model_dim=16,
        encoder_layers=2,
        decoder_layers=2,
        encoder_heads=2,
        decoder_heads=2,
        encoder_ffn_dim=24,
        decoder_ffn_dim=24,
        max_positions=64,
        num_experts=2,
        encoder_sparse_step=2,
        decoder_sparse_step=2,
    )
    return Transformer(config).eval()


def _make_hugging_face(folder: Path) -> None:
    from nllb.languages import parse_language
    from nllb.model.formats.hugging_face import write_hugging_face
    from nllb.model.tokenizer import Tokenizer

    path = folder.with_name("pieces.model")
    path.write_bytes(piece_model())
    tokenizer = Tokenizer.build(path, LANGUAGES)
    model = _model(tokenizer.layout.size)
    folder.rmdir()
    write_hugging_face(
        folder, model.config, model.state_dict(), tokenizer, settings={"licence": "X"}
    )
    ids = torch.tensor([2, 3, 4, 5, 6], dtype=torch.int32)
    save_file({parse_language("fra_Latn").code: ids}, folder / "shortlists.safetensors")


def _make_tokenizer_json(folder: Path) -> None:
    for path in folder.with_name("hugging-face").iterdir():
        if path.name not in ("sentencepiece.bpe.model", "tokenizer_config.json"):
            (folder / path.name).write_bytes(path.read_bytes())


def _make_m2m(folder: Path) -> None:
    from nllb.io.piece_proto import PieceModel
    from nllb.model.formats.hugging_face import write_hugging_face
    from nllb.model.tokenizer import Tokenizer

    pieces = [piece.text for piece in PieceModel.parse(piece_model()).pieces[3:]]
    order = ["<s>", "<pad>", "</s>", "<unk>", *sorted(pieces)]
    (folder / "vocab.json").write_text(json.dumps({text: n for n, text in enumerate(order)}))
    (folder / "sentencepiece.bpe.model").write_bytes(piece_model())
    tokenizer = Tokenizer.open(folder, vocabulary_size=len(order) + 108)
    model = _model(tokenizer.vocabulary_size)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    write_hugging_face(folder, model.config, model.state_dict(), tokenizer, settings={})


def _make_int8(folder: Path) -> None:
    from nllb.model.formats.conversion import convert
    from nllb.model.formats.open_model import open_model

    source = open_model(folder.with_name("hugging-face"))
    folder.rmdir()
    convert(source, folder, storage="int8", max_shard_bytes=12_000, quiet=True)


def _make_torch_weights(folder: Path) -> None:
    source = folder.with_name("hugging-face")
    for name in ("config.json", "sentencepiece.bpe.model"):
        (folder / name).write_bytes((source / name).read_bytes())
    from nllb.model.formats.safetensors_files import SafetensorsFile

    file = SafetensorsFile(source / "model.safetensors")
    torch.save(
        {name: file.read(name).clone() for name in file.names()}, folder / "pytorch_model.bin"
    )
    decoder = json.loads((source / "tokenizer_config.json").read_text())["added_tokens_decoder"]
    tokens = [{"id": int(number), **entry} for number, entry in decoder.items()]
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": tokens}))


def _fairseq_state() -> dict[str, torch.Tensor]:
    from nllb.model.formats.weight_names import list_weights

    size = 60 + 1 + len(LANGUAGES) + 3
    config = replace(
        _model(size).config, num_experts=0, encoder_sparse_step=0, decoder_sparse_step=0
    )
    generator = torch.Generator().manual_seed(0)
    return {
        weight.name_in("fairseq"): torch.randn(weight.shape, generator=generator)
        for weight in list_weights(config)
    }


def _write_fairseq(folder: Path, *, zipped: bool) -> None:
    model = piece_model()
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    pieces = [processor.id_to_piece(i) for i in range(processor.get_piece_size())]
    state = _fairseq_state()
    size = len(pieces) + 1 + len(LANGUAGES) + 3
    for name in [name for name in state if name.endswith("embed_tokens.weight")]:
        state[name] = torch.randn(size, 16)
    arguments = argparse.Namespace(
        encoder_attention_heads=2, decoder_attention_heads=2, langs=",".join(LANGUAGES), dropout=0.1
    )
    torch.save(
        {"model": state, "args": arguments},
        folder / "checkpoint.pt",
        _use_new_zipfile_serialization=zipped,
    )
    (folder / "sentencepiece.bpe.model").write_bytes(model)
    (folder / "dictionary.txt").write_text("".join(f"{piece} 1\n" for piece in pieces[3:]))


def _make_fairseq(folder: Path) -> None:
    _write_fairseq(folder, zipped=True)


def _make_legacy_fairseq(folder: Path) -> None:
    _write_fairseq(folder, zipped=False)


def open_model_directory(folder: Path) -> None:
    """Open a model directory, its tokenizer, its shortlists and its weights, and translate."""
    from nllb.inference.generator import SearchOptions
    from nllb.inference.model_generator import ModelGenerator
    from nllb.languages import parse_language
    from nllb.model.formats.open_model import load_model, open_model

    opened = open_model(folder, offline=True)
    tokenizer = opened.tokenizer()
    codes = tokenizer.languages or ("eng_Latn",)
    tokenizer.decode(tokenizer.encode_source(TEXT, codes[0]))
    load_model(opened)
    source, target = parse_language(codes[0]), parse_language(codes[-1])
    generator = ModelGenerator.load(folder, device="cpu", num_threads=1)
    search = SearchOptions(beam_size=2, max_output_tokens=6)
    generator.generate([TEXT], source=source, target=target, search=search)


def open_fairseq_file(folder: Path) -> None:
    """Open the fairseq checkpoint of a folder."""
    open_model_directory(folder / "checkpoint.pt")


def _tensors(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def _make_laser2(folder: Path) -> None:
    (folder / "laser2.spm").write_bytes(piece_model())
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "laser2.spm"))
    tokens = ["<s>", "<pad>", "</s>", "<unk>"]
    tokens += [processor.id_to_piece(i) for i in range(3, processor.get_piece_size())]
    shapes: dict[str, tuple[int, ...]] = {"embed_tokens.weight": (len(tokens), 6)}
    for suffix in ("", "_reverse"):
        shapes[f"lstm.weight_ih_l0{suffix}"] = (16, 6)
        shapes[f"lstm.weight_hh_l0{suffix}"] = (16, 4)
        shapes[f"lstm.bias_ih_l0{suffix}"] = shapes[f"lstm.bias_hh_l0{suffix}"] = (16,)
    params = {"num_embeddings": len(tokens), "embed_dim": 6, "hidden_size": 4, "num_layers": 1}
    dictionary = {token: number for number, token in enumerate(tokens)}
    state = {"params": params, "model": _tensors(shapes), "dictionary": dictionary}
    torch.save(state, folder / "laser2.pt")


def _make_laser3(folder: Path) -> None:
    (folder / "laser3.spm").write_bytes(piece_model())
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "laser3.spm"))
    pieces = [processor.id_to_piece(i) for i in range(3, processor.get_piece_size())]
    (folder / "laser3.cvocab").write_text("".join(f"{piece} 1\n" for piece in pieces))
    shapes: dict[str, tuple[int, ...]] = {"embed_tokens.weight": (len(pieces) + 4, 8)}
    for name in ("q", "k", "v", "out"):
        shapes[f"layers.0.self_attn.{name}_proj.weight"] = (8, 8)
        shapes[f"layers.0.self_attn.{name}_proj.bias"] = (8,)
    for name, shape in {"fc1": (12, 8), "fc2": (8, 12)}.items():
        shapes[f"layers.0.{name}.weight"], shapes[f"layers.0.{name}.bias"] = shape, shape[:1]
    for name in ("self_attn_layer_norm", "final_layer_norm"):
        shapes[f"layers.0.{name}.weight"] = shapes[f"layers.0.{name}.bias"] = (8,)
    model = argparse.Namespace(encoder_attention_heads=2, sentemb_criterion="cls", prepend_bos=True)
    weights = {f"encoder.{name}": value for name, value in _tensors(shapes).items()}
    torch.save({"cfg": {"model": model}, "model": weights}, folder / "laser3.pt")


def open_laser(folder: Path) -> None:
    """Open a LASER checkpoint and encode a sentence."""
    from data_pipeline.mining.encoders.load_encoder import load_encoder

    load_encoder(next(folder.glob("*.pt"))).encode([TEXT], "eng_Latn")


def _make_static_encoder(folder: Path) -> None:
    from data_pipeline.mining.encoders.static_encoder import save_encoder

    table = torch.randn(40, 16, generator=torch.Generator().manual_seed(0))
    card = {"name": "random", "licence": "X"}
    owners = numpy.arange(0, 60, 3, dtype=numpy.int32)
    save_encoder(folder, table=table, owners=owners, card=card)


def open_static_encoder(folder: Path) -> None:
    """Open a static encoder."""
    from data_pipeline.mining.encoders.load_encoder import load_encoder

    load_encoder(folder)


def _make_e5_file(folder: Path) -> None:
    from tests.tiny_encoder import write_e5_file

    write_e5_file(folder / "tiny.bin")


def open_e5(folder: Path) -> None:
    """Open an E5S1 file and read its weights."""
    from nllb.model.formats.e5_file import open_e5_file
    from nllb.model.pretrained_encoder import list_encoder_weights

    file = open_e5_file(folder / "tiny.bin")
    for weight in list_encoder_weights(file.config):
        (file.read_blocks if weight.is_matrix else file.read_vector)(weight.name)


def _make_pretrained_encoder(folder: Path) -> None:
    from nllb.io.corpora import open_corpus
    from nllb.model.formats.encoder_conversion import convert_e5
    from nllb.model.formats.encoder_directory import file_sha256

    source = folder.with_name("e5-file") / "tiny.bin"
    text = folder.with_name("encoder-text")
    text.mkdir()
    (text / "eng_Latn").write_text(TEXT)
    corpus = open_corpus(text, layout="lines")
    convert_e5(
        source,
        folder,
        [corpus],
        tiers=((16, 20), (6, 10)),
        expected_sha256=file_sha256(source),
        quiet=True,
    )
    for name in ("README.md", "LICENSE"):
        (folder / name).unlink()
    settings = json.loads((folder / "nllb.json").read_text())
    (folder / "nllb.json").write_text(json.dumps({**settings, "files": {}}))  # else hashes tell


def open_pretrained_encoder(folder: Path) -> None:
    """Open a pretrained encoder and encode a sentence."""
    from nllb.inference.sentence_encoder import SentenceEncoder

    SentenceEncoder.load(folder, num_threads=1).encode([TEXT])


def _make_detector(folder: Path) -> None:
    import fasttext

    from lid.identifier_card import ModelCard, write_card
    from lid.ngrams import NgramSets
    from lid.word_frequencies import WordFrequencies

    draw = random.Random(1)
    lines = {
        "eng_Latn": [" ".join(draw.choices(WORDS, k=8)) for _ in range(40)],
        "fra_Latn": [" ".join(draw.choices("la maison est petite le chien dort".split(), k=8))]
        * 40,
    }
    text = folder.with_name("lid.txt")
    text.write_text(
        "".join(f"__label__{code} {line}\n" for code, rows in lines.items() for line in rows)
    )
    model = fasttext.train_supervised(
        str(text), dim=4, epoch=5, minn=2, maxn=3, bucket=600, thread=1, verbose=0
    )
    model.quantize(input=str(text), cutoff=300, retrain=True, qnorm=True, thread=1)
    model.save_model(str(folder / "model.ftz"))
    grams = NgramSets.build(
        {code: {"x": rows} for code, rows in lines.items()}, max_ngrams=50, size_bytes=512
    )
    grams.save(folder / "grams.bin")
    by_domain = {code: {"x": rows} for code, rows in lines.items()}
    WordFrequencies.build(by_domain, max_words=20).save(folder / "words.bin")
    shares = dict.fromkeys(lines, 0.5)
    card = ModelCard(
        name="tiny", normalised=True, thresholds=shares, grams=shares,
        acceptance=[0.1] * 8, limits=[0.0] * 6, labels=2,
    )  # fmt: skip
    write_card(card, folder)
    (folder / "CARD.md").unlink()


def open_detector(folder: Path) -> None:
    """Open a detector and ask it."""
    from lid.detector import Detector

    Detector.load(folder).detect_batch([TEXT, "la maison est petite", "x"])


def _make_token_shards(folder: Path) -> None:
    from nllb.io.manifest import (
        CorpusRecord,
        Manifest,
        Phase,
        ShardGroup,
        TrainingDirection,
        VocabularyRecord,
        write_manifest,
    )
    from nllb.io.shards import write_token_shard

    (folder / "pieces.model").write_bytes(piece_model())
    sides = [[[4, 5, 6], [7, 8]], [[9, 10], [11, 12, 13]]]
    file = write_token_shard(folder / "a.tokens", sides, vocabulary_size=66)
    vocabulary = VocabularyRecord(
        file="pieces.model", sha256="0" * 64, name="own", num_pieces=60,
        languages=tuple(LANGUAGES), tags=("<MINED_DATA>",), size=65,
    )  # fmt: skip
    parts = tuple(
        ShardGroup(
            source="eng_Latn", target="fra_Latn", origin="primary", split=split, files=(file,)
        )
        for split in ("train", "valid")
    )
    direction = TrainingDirection(source="eng_Latn", target="fra_Latn", num_pairs=2, weight=1.0)
    write_manifest(
        Manifest(
            format_version=1,
            vocabulary=vocabulary,
            temperature=5.0,
            parts=parts,
            directions=(direction,),
            phases=(Phase(until_step=None, directions=("eng_Latn-fra_Latn",)),),
            corpora=(CorpusRecord(name="own", origin="primary", licence="X", num_pairs=2),),
            made_by={"version": "0"},
            directory=folder,
        )
    )


def open_token_shards(folder: Path) -> None:
    """Open a manifest and all of its shards."""
    from nllb.io.manifest import read_manifest
    from nllb.io.piece_models import open_pieces

    manifest = read_manifest(folder)
    open_pieces(folder / "pieces.model")
    for part in manifest.parts:
        for file in part.files:
            shard = manifest.open(file)
            shard.lengths()
            for number in range(len(shard)):
                shard.source(number).tolist()
                shard.target(number).tolist()
    manifest.verify()


def _make_training_checkpoint(folder: Path) -> None:
    from nllb.training.checkpoints.checkpoint import CheckpointFolder, RunState
    from nllb.training.distributed.ranks import Ranks

    ranks = Ranks(rank=0, size=1, device=torch.device("cpu"))
    tensors = {f"{kind}/a.weight": torch.ones(4, 3) for kind in ("weight", "exp_avg", "exp_avg_sq")}
    checkpoints = CheckpointFolder(folder.with_name("checkpoints"), ranks)
    written = checkpoints.save(tensors, RunState(step=3, made_by={"data": "x"}))
    folder.rmdir()
    written.rename(folder)


def open_training_checkpoint(folder: Path) -> None:
    """Open a checkpoint of a training run."""
    from nllb.training.checkpoints.checkpoint import find_damage, read_state
    from nllb.training.checkpoints.tensor_files import TensorReader

    find_damage(folder)
    state = read_state(folder)
    f"{state.step:,} {state.seconds:.1f}"
    TensorReader(folder).read_into({"weight/a.weight": torch.ones(4, 3)})


def _make_evaluation(folder: Path) -> None:
    from eval.flores.direction_scores import score_outputs
    from eval.flores.directions import Direction
    from eval.metrics.registry import choose_metrics
    from nllb.io.benchmarks import load_aligned

    references, outputs = folder / "references", folder / "outputs"
    for path in (references, outputs):
        path.mkdir()
    for code in LANGUAGES:
        (references / f"{code}.txt").write_text(f"{TEXT} {code}\nthe dog sleeps\n")
    (outputs / "eng_Latn-fra_Latn.txt").write_text("the old house\nthe dog\n")
    direction = Direction(source="eng_Latn", target="fra_Latn")
    score_outputs(
        {direction: outputs / "eng_Latn-fra_Latn.txt"},
        benchmark=load_aligned(references),
        out=folder,
        choice=choose_metrics("chrf++", spm=None, spm_name="flores200", spm_sha256=None),
        system="tiny",
        outputs=outputs,
        wanted=[direction],
        quiet=True,
    )


def open_evaluation(folder: Path) -> None:
    """Read results, what the next run would keep of them, and make the report."""
    from eval.flores.index import load_index
    from eval.report.building import build_page
    from eval.report.sources import read_sources

    load_index(folder)
    build_page(read_sources([folder])).render()
