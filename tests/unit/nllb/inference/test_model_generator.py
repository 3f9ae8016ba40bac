"""The generator over a random model: order, identical segments, prefixes, sampling, workers."""

import numpy as np
import pytest
import torch

from nllb.errors import ConfigError, ResourceError
from nllb.inference.engine import TorchEngine
from nllb.inference.generator import SearchOptions
from nllb.inference.kernels.compiled_engine import int8_engine
from nllb.inference.model_generator import ModelGenerator
from nllb.languages import parse_language
from nllb.model.configuration import ModelConfig
from nllb.model.tokenizer import Tokenizer
from nllb.model.transformer import Transformer

ENGLISH, FRENCH = parse_language("eng_Latn"), parse_language("fra_Latn")
SENTENCES = [
    "the cat sat on the mat",
    "a dog",
    "birds of many colours sang in the old garden all day long",
    "rain fell on the town and the river rose",
    "",
    "one two three four five six seven",
]


@pytest.fixture(scope="module")
def tokenizer(train_vocabulary, tmp_path_factory) -> Tokenizer:
    lines = [sentence for sentence in SENTENCES if sentence] * 20
    folder = tmp_path_factory.mktemp("vocabulary")
    path = train_vocabulary(lines, folder, vocab_size=90, hard_vocab_limit=False)
    return Tokenizer.build(path, ["eng_Latn", "fra_Latn"])


@pytest.fixture(scope="module")
def weights(tokenizer):
    config = ModelConfig(
        vocabulary_size=tokenizer.vocabulary_size,
        model_dim=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_heads=4,
        decoder_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_positions=100,
    )
    torch.manual_seed(0)
    model = Transformer(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(std=0.4)
            if "norm.weight" in name:
                parameter.add_(1)
    return config, model.state_dict()


@pytest.fixture(scope="module")
def generator(tokenizer, weights) -> ModelGenerator:
    return ModelGenerator(int8_engine(*weights, num_threads=1), tokenizer)


def generate(generator, segments, prefixes=None, **options):
    return generator.generate(
        segments,
        source=ENGLISH,
        target=FRENCH,
        search=SearchOptions(**options),
        prefixes=prefixes,
    )


def test_order_is_kept_and_identical_segments_are_translated_once(generator, monkeypatch) -> None:
    encoded: list[int] = []
    original = type(generator.engine).encode
    monkeypatch.setattr(
        type(generator.engine),
        "encode",
        lambda self, sources: (encoded.append(len(sources)), original(self, sources))[1],
    )
    together = generate(generator, SENTENCES + SENTENCES[::-1], beam_size=3, num_hypotheses=3)
    assert sum(encoded) == len(SENTENCES)
    assert [found[0].source for found in together] == SENTENCES + SENTENCES[::-1]
    assert together[: len(SENTENCES)] == together[: len(SENTENCES) - 1 : -1]
    alone = [generate(generator, [s], beam_size=3, num_hypotheses=3)[0] for s in SENTENCES]
    assert alone == together[: len(SENTENCES)]
    for found in together:
        assert len(found) == 3
        assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
        assert len({h.token_ids for h in found}) == 3
        for hypothesis in found:
            assert hypothesis.num_tokens == len(hypothesis.token_ids) + hypothesis.finished
            length = hypothesis.num_tokens + 1
            assert hypothesis.score == pytest.approx(hypothesis.log_probability / length, rel=1e-4)


@pytest.mark.parametrize("kind", ["int8", "float32"])
def test_log_probabilities_are_those_of_a_greedy_replay(tokenizer, weights, kind) -> None:
    make = int8_engine if kind == "int8" else TorchEngine
    engine = make(*weights, **({"num_threads": 1} if kind == "int8" else {}))
    generator = ModelGenerator(engine, tokenizer)
    (found,) = generate(generator, ["the old garden"], beam_size=4)
    best = found[0]
    decoding = engine.decode(
        engine.encode([tokenizer.encode_source("the old garden", "eng_Latn")]),
        width=1,
        max_positions=100,
    )
    one = np.zeros(1, np.int64)
    decoding.advance(np.array([tokenizer.decoder_start("fra_Latn")]), one, one)
    total = 0.0
    for token in (*best.token_ids, *([2] if best.finished else [])):
        total += float(decoding.logits().log_softmax(-1)[0, token])
        decoding.advance(np.array([[token]]), one, one)
    assert best.log_probability == pytest.approx(total, abs=1e-3)


def test_prefixes_begin_the_outputs(generator, tokenizer) -> None:
    prefixes = ["the river", "", "a dog", "one", "", "rain fell on the town"]
    for options in ({"beam_size": 1}, {"beam_size": 4}, {"beam_size": 1, "sampling": True}):
        found = generate(generator, SENTENCES, prefixes, **options)
        free = generate(generator, SENTENCES, **options)
        for prefix, with_prefix, without in zip(prefixes, found, free, strict=True):
            ids = tuple(tokenizer.encode(prefix))
            best = with_prefix[0]
            assert best.token_ids[: len(ids)] == ids
            assert best.num_tokens == len(best.token_ids) - len(ids) + best.finished
            if not prefix and not options.get("sampling"):
                assert best == without[0]


def test_samples_depend_on_seed_and_segment_alone(generator) -> None:
    options = {"beam_size": 1, "sampling": True, "num_hypotheses": 5, "max_output_tokens": 12}
    together = generate(generator, SENTENCES, seed=7, **options)
    alone = [generate(generator, [s], seed=7, **options)[0] for s in SENTENCES]
    assert together == alone
    assert together != generate(generator, SENTENCES, seed=8, **options)
    assert len({h.token_ids for h in together[0]}) > 1
    narrow = generate(generator, SENTENCES, seed=7, top_k=1, **options)
    greedy = generate(generator, SENTENCES, beam_size=1, max_output_tokens=12)
    for sampled, best in zip(narrow, greedy, strict=True):
        assert all(h.token_ids == best[0].token_ids for h in sampled)
    assert narrow == generate(generator, SENTENCES, seed=7, top_p=1e-9, **options)


def test_sampling_follows_the_distribution(generator) -> None:
    options = {"beam_size": 1, "sampling": True, "max_output_tokens": 1, "temperature": 0.7}
    found = generate(generator, ["a dog"], num_hypotheses=3000, **options)[0]
    engine, tokenizer = generator.engine, generator.tokenizer
    decoding = engine.decode(
        engine.encode([tokenizer.encode_source("a dog", "eng_Latn")]), width=1, max_positions=4
    )
    decoding.advance(np.array([tokenizer.decoder_start("fra_Latn")]), *[np.zeros(1, np.int64)] * 2)
    expected = (decoding.logits()[0] / 0.7).softmax(-1)
    counts = torch.zeros_like(expected)
    for hypothesis in found:
        counts[hypothesis.token_ids[0] if hypothesis.token_ids else 2] += 1
    assert float((counts / 3000 - expected).abs().sum()) / 2 < 0.06  # total variation


def test_length_and_repetition_options(generator) -> None:
    for beam_size in (1, 4):
        found = generate(
            generator, SENTENCES, beam_size=beam_size, min_output_tokens=9, max_output_tokens=9
        )
        assert all(len(h.token_ids) == 9 and not h.finished for f in found for h in f)
        blocked = generate(
            generator, SENTENCES, beam_size=beam_size, no_repeat_ngram=2, min_output_tokens=20
        )
        for hypotheses in blocked:
            pairs = list(zip(hypotheses[0].token_ids, hypotheses[0].token_ids[1:], strict=False))
            assert len(pairs) == len(set(pairs))
        plain = generate(generator, SENTENCES, beam_size=beam_size, min_output_tokens=20)
        penalised = generate(
            generator, SENTENCES, beam_size=beam_size, min_output_tokens=20, repetition_penalty=50.0
        )
        variety = [np.mean([len(set(f[0].token_ids)) for f in x]) for x in (plain, penalised)]
        assert variety[1] > variety[0]


def test_workers_give_the_same(tokenizer, weights, generator, monkeypatch) -> None:
    monkeypatch.setattr("nllb.inference.model_generator.BATCH_SENTENCES", 2)
    segments = [f"{a} and {b}" for a in SENTENCES for b in SENTENCES[:3]]
    many = ModelGenerator(int8_engine(*weights, num_threads=2), tokenizer)
    options = {"beam_size": 2, "max_output_tokens": 10}
    assert generate(many, segments, **options) == generate(generator, segments, **options)


def test_the_shortlist_is_used_and_what_the_source_has_stays_open(generator, tokenizer) -> None:
    ids = np.array(sorted({2, *tokenizer.encode("the cat")}))
    listed = generator.with_shortlist(FRENCH, ids)
    assert listed.has_shortlist(FRENCH) and not generator.has_shortlist(FRENCH)
    options = {"beam_size": 2, "max_output_tokens": 10}
    found = generate(listed, SENTENCES, **options)
    for segment, hypotheses in zip(SENTENCES, found, strict=True):
        open_ids = {*ids.tolist(), *tokenizer.encode(segment)}
        assert set(hypotheses[0].token_ids) <= open_ids
    assert found == [generate(listed, [s], **options)[0] for s in SENTENCES]
    assert generate(listed, SENTENCES, shortlist=False, **options) == generate(
        generator, SENTENCES, **options
    )


def test_what_fits_and_what_is_supported(generator) -> None:
    assert generator.fits("a dog", source=ENGLISH)
    assert not generator.fits("rain " * 110, source=ENGLISH)
    with pytest.raises(ConfigError, match="the model's maximum is 100; split it"):
        generate(generator, ["rain " * 110])
    assert generator.supports(FRENCH)
    assert not generator.supports(parse_language("deu_Latn"))


def test_all_invalid_options_are_reported(generator) -> None:
    with pytest.raises(ConfigError) as caught:
        generate(generator, ["a"], beam_size=0, top_p=0.0, temperature=-1.0, num_hypotheses=3)
    for part in ("beam_size is 0", "top_p is 0.0", "temperature", "num_hypotheses 3"):
        assert part in str(caught.value)
    with pytest.raises(ConfigError, match="sampling requires beam_size 1, not 4"):
        generate(generator, ["a"], sampling=True)


def test_a_type_that_does_not_go_with_the_device(tmp_path) -> None:
    from nllb.inference.model_generator import _device

    with pytest.raises(ResourceError, match="use 'cpu' or 'auto'"):
        _device("nonsense")
    assert _device("cpu").type == "cpu"
