"""The search against transformers' `generate`, and what transformers has no counterpart of."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from nllb.errors import CheckpointError, ConfigError
from nllb.inference.engine import Decoding, Engine, OutputChoice, TorchEngine
from nllb.inference.generator import SearchOptions
from nllb.inference.search import Job, Output, check_options, search
from nllb.model.configuration import ModelConfig
from nllb.model.formats.open_model import open_model

VOCABULARY = 160
LANGUAGES = (150, 151, 152)
END = 2
SHAPE = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 128,
    "scale_embedding": False,
}


def make_model(sparse: bool, seed: int = 0):
    from transformers import (
        M2M100Config,
        M2M100ForConditionalGeneration,
        NllbMoeConfig,
        NllbMoeForConditionalGeneration,
    )

    torch.manual_seed(seed)
    if sparse:
        config = NllbMoeConfig(
            **SHAPE, num_experts=6, encoder_sparse_step=2, decoder_sparse_step=2, expert_capacity=64
        )
        model = NllbMoeForConditionalGeneration(config)
    else:
        model = M2M100ForConditionalGeneration(M2M100Config(**SHAPE))
    with torch.no_grad():
        for name, parameter in model.named_parameters():  # sharp attention, so that outputs vary
            matrix = 8.0 if "q_proj" in name or "k_proj" in name else 4.0
            parameter.normal_(std=matrix / 32**0.5 if parameter.ndim == 2 else 0.1)
            if "layer_norm" in name and name.endswith("weight"):
                parameter.add_(1)
        rows = (
            model.get_input_embeddings().weight
        )  # of one length, so that no token is the favourite
        rows.copy_(torch.nn.functional.normalize(rows, dim=1) * 10)
        rows[END] *= 1.3  # but outputs end by themselves
        rows[1] = 0  # padding
    return model.eval()


@pytest.fixture(scope="module", params=["dense", "sparse"])
def pair(request, tmp_path_factory):
    """The same random model in transformers and in the torch engine."""
    theirs = make_model(request.param == "sparse")
    path = tmp_path_factory.mktemp(request.param)
    theirs.save_pretrained(path)
    opened = open_model(path)
    return theirs, TorchEngine(opened.config, opened.weights)


def make_sources(count: int, seed: int = 1) -> list[list[int]]:
    random = np.random.default_rng(seed)
    return [
        [
            int(random.choice(LANGUAGES)),
            *random.integers(4, 140, random.integers(3, 15)).tolist(),
            END,
        ]
        for _ in range(count)
    ]


def make_jobs(sources, *, limit: int = 24, prefix: tuple[int, ...] = ()) -> list[Job]:
    return [
        Job(source=tuple(s), prompt=(END, LANGUAGES[1]), prefix=prefix, limit=limit + len(prefix))
        for s in sources
    ]


def ask_transformers(model, sources, **options) -> list[list[int]]:
    longest = max(map(len, sources))
    ids = torch.tensor([s + [1] * (longest - len(s)) for s in sources])
    options = {"max_new_tokens": 25, "forced_bos_token_id": LANGUAGES[1]} | options
    rows = model.generate(
        input_ids=ids, attention_mask=(ids != 1).long(), do_sample=False, **options
    )
    cut = []
    for row in rows.tolist():
        assert row[:2] == [END, LANGUAGES[1]]
        output = row[2:]
        ended = output.index(END) if END in output else len(output)
        cut.append([token for token in output[:ended] if token != 1])
    return cut


def best(outputs: list[list[Output]]) -> list[list[int]]:
    return [list(found[0].token_ids) for found in outputs]


CASES = [
    {"num_beams": 1},
    {"num_beams": 4},
    {"num_beams": 5, "length_penalty": 0.6},
    {"num_beams": 4, "length_penalty": 2.0},
    {"num_beams": 3, "no_repeat_ngram_size": 2},
    {"num_beams": 1, "no_repeat_ngram_size": 3},
    {"num_beams": 4, "min_new_tokens": 12},
    {"num_beams": 1, "min_new_tokens": 25},
]


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: ",".join(f"{k}={v}" for k, v in case.items())
)
def test_the_same_tokens_as_transformers(pair, case) -> None:
    model, engine = pair
    sources = make_sources(12)
    expected = ask_transformers(model, sources, **case)
    options = SearchOptions(
        beam_size=case["num_beams"],
        length_penalty=case.get("length_penalty", 1.0),
        no_repeat_ngram=case.get("no_repeat_ngram_size", 0),
        min_output_tokens=max(case.get("min_new_tokens", 0) - 1, 0),
    )
    found = best(search(engine, make_jobs(sources), options))
    assert found == expected
    assert len({tuple(tokens) for tokens in found}) >= 8  # the outputs depend on the sources
    assert np.mean([len(set(tokens)) / max(len(tokens), 1) for tokens in found]) > 0.2


class _StandInDecoding(Decoding):
    """Scores that the test chose, the same for every row."""

    def __init__(self, scores: list[float]):
        self.scores = np.array(scores, np.float32)
        self.rows = 0

    def advance(self, tokens_RP, parents_R, sentences) -> None:
        self.rows = len(tokens_RP)

    def best(self, count):
        values, ids = self.logits().log_softmax(-1).topk(min(count, len(self.scores)))
        return values.numpy(), ids.numpy()

    def logits(self) -> torch.Tensor:
        return torch.from_numpy(self.scores)[None].repeat(self.rows, 1)


class _StandInEngine(Engine):
    """An engine whose scores are the same at each step."""

    def __init__(self, scores: list[float]):
        self.scores = scores
        self.config = ModelConfig(
            vocabulary_size=len(scores),
            model_dim=4,
            encoder_layers=1,
            decoder_layers=1,
            encoder_heads=1,
            decoder_heads=1,
            encoder_ffn_dim=4,
            decoder_ffn_dim=4,
            max_positions=20,
        )

    def encode(self, sources):
        return None

    def decode(self, memory, *, width, max_positions, choice=None):
        return _StandInDecoding(self.scores)

    def restrict(self, ids):
        return None


STAND_IN_JOB = Job(source=(5, 2), prompt=(2, 4), limit=3)


@pytest.mark.parametrize(
    "options",
    [
        SearchOptions(beam_size=1),
        SearchOptions(beam_size=3),
        SearchOptions(beam_size=2, no_repeat_ngram=2),
        SearchOptions(beam_size=2, min_output_tokens=2),
        SearchOptions(beam_size=1, sampling=True),
    ],
)
def test_scores_that_are_not_numbers_end_the_search(options) -> None:
    good = [-1.0, -2, -3, -4, -5, -6]
    assert search(_StandInEngine(good), [STAND_IN_JOB], options)[0][0].token_ids
    for bad in (float("nan"), float("inf")):
        scores = [*good[:-1], bad]
        with pytest.raises(CheckpointError, match="scores are not finite numbers"):
            search(_StandInEngine(scores), [STAND_IN_JOB], options)
    with pytest.raises(CheckpointError, match="scores are not finite numbers"):
        search(_StandInEngine([float("nan")] * 6), [STAND_IN_JOB], options)


@pytest.mark.parametrize("wrong", [-1, 6, 1 << 40])
@pytest.mark.parametrize("part", ["source", "prompt", "prefix"])
def test_ids_of_another_tokenizer_are_refused(part, wrong) -> None:
    job = replace(STAND_IN_JOB, **{part: (2, wrong)})
    with pytest.raises(CheckpointError, match=r"the model's are 0 to 5"):
        search(_StandInEngine([0.0] * 6), [job], SearchOptions(beam_size=1))


def test_a_beam_is_not_wider_than_the_choice_of_tokens() -> None:
    engine = _StandInEngine([0.0, -1, -2, -3, -4, -5])
    options = SearchOptions(beam_size=6)
    assert len(search(engine, [STAND_IN_JOB], options)[0]) == 1
    with pytest.raises(ConfigError, match="beam_size is 7, but outputs can use only 6 tokens"):
        search(engine, [STAND_IN_JOB], replace(options, beam_size=7))
    ids = np.array([2, 3])
    choice = OutputChoice(projection=None, ids=ids, extra=(np.array([5]),))
    with pytest.raises(ConfigError, match="beam_size is 4, but outputs can use only 3 tokens"):
        search(engine, [STAND_IN_JOB], SearchOptions(beam_size=4), choice=choice)


def test_outputs_fit_the_positions_of_the_model() -> None:
    engine = _StandInEngine([0.0] * 6)
    for wrong in ({"limit": 19}, {"limit": 0}, {"prefix": (2, 2, 2)}):
        with pytest.raises(ConfigError, match="20 positions"):
            search(engine, [replace(STAND_IN_JOB, **wrong)], SearchOptions(beam_size=1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam_size": 545}, "beam_size is 545; it must be 1 to 256"),
        ({"beam_size": 0}, "beam_size is 0; it must be 1 to 256"),
        ({"beam_size": 10**20}, "it must be 1 to 256"),
        ({"num_hypotheses": 0}, "num_hypotheses is 0"),
        ({"length_penalty": float("nan")}, "length_penalty is nan"),
        ({"temperature": float("nan")}, "temperature"),
        ({"repetition_penalty": float("inf")}, "repetition_penalty"),
        ({"top_p": float("nan")}, "top_p is nan"),
    ],
)
def test_options_out_of_range(options, message) -> None:
    with pytest.raises(ConfigError, match=message):
        check_options(SearchOptions(**options), num_positions=100)
