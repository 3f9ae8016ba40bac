"""Outputs of byte pieces are valid UTF-8, whatever the model prefers."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nllb.inference.byte_fallback import NOT_A_BYTE, ByteRules, byte_rules
from nllb.inference.generator import SearchOptions
from nllb.inference.search import Job, search

END, FIRST_BYTE, SIZE = 2, 3, 300
BYTES = np.full(SIZE, NOT_A_BYTE, np.int16)
BYTES[FIRST_BYTE : FIRST_BYTE + 256] = np.arange(256)


class RandomDecoding:
    """Prefers byte tokens at random, by the tokens of the row so far."""

    def __init__(self, seed):
        self.seed, self.past, self.calls = seed, [], 0

    def advance(self, tokens_RP, parents_R, sentences):
        before = self.past or [()] * (int(parents_R.max()) + 1)
        self.past = [
            before[parent] + tuple(tokens)
            for parent, tokens in zip(parents_R.tolist(), tokens_RP.tolist(), strict=True)
        ]

    def logits(self):
        self.calls += 1
        rows = []
        for past in self.past:
            random = np.random.default_rng([self.seed, *past])
            logits = random.normal(size=SIZE).astype(np.float32)
            logits[FIRST_BYTE + 0x80 : FIRST_BYTE + 256] += 2
            logits[:END] = -50
            rows.append(logits)
        return torch.from_numpy(np.stack(rows))

    def best(self, count):
        values, ids = self.logits().log_softmax(-1).topk(count, dim=-1)
        return values.numpy(), ids.numpy()


def run(seed, options, rules, *, limit=9):
    decoding = RandomDecoding(seed)
    engine = SimpleNamespace(
        config=SimpleNamespace(
            eos_id=END, vocabulary_size=SIZE, max_positions=1024, pretrained_layers=0
        ),
        encode=lambda sources: None,
        decode=lambda *_, **__: decoding,
    )
    jobs = [Job(source=(5, number), prompt=(END, 299), limit=limit) for number in range(3)]
    found = search(engine, jobs, options, byte_rules=rules)
    return [output for of_job in found for output in of_job]


def is_valid(output):
    raw = bytes(int(BYTES[token]) for token in output.token_ids if BYTES[token] != NOT_A_BYTE)
    others = [token for token in output.token_ids if BYTES[token] == NOT_A_BYTE]
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return len(raw) + len(others) == len(output.token_ids)


OPTIONS = [
    SearchOptions(beam_size=4, num_hypotheses=4),
    SearchOptions(beam_size=1),
    SearchOptions(beam_size=4, no_repeat_ngram=2, num_hypotheses=2),
    SearchOptions(beam_size=4, min_output_tokens=6),
    SearchOptions(beam_size=1, sampling=True, num_hypotheses=3),
]


@pytest.mark.parametrize("options", OPTIONS)
def test_every_output_is_valid_utf8(options):
    rules = ByteRules(BYTES)
    outputs = [output for seed in range(4) for output in run(seed, options, rules)]
    assert all(map(is_valid, outputs))
    assert all(np.isfinite(output.log_probability) for output in outputs)
    without = [output for seed in range(4) for output in run(seed, options, None)]
    assert not all(map(is_valid, without))


@pytest.mark.parametrize("limit", [1, 2, 3, 4])
def test_no_character_begins_that_could_not_be_finished(limit):
    for seed in range(3):
        outputs = run(seed, OPTIONS[0], ByteRules(BYTES), limit=limit)
        assert all(map(is_valid, outputs))


def test_the_outputs_are_those_of_a_search_of_the_whole_vocabulary_under_the_rules():
    """Candidates are taken from the best tokens where these suffice; the result is the same."""
    rules = ByteRules(BYTES)
    for seed in range(3):
        quick = run(seed, SearchOptions(beam_size=4, num_hypotheses=4), rules)
        options = SearchOptions(beam_size=4, num_hypotheses=4, repetition_penalty=1.0 + 1e-12)
        whole = run(seed, options, rules)
        assert [output.token_ids for output in quick] == [output.token_ids for output in whole]


@given(st.text(max_size=6), st.integers(4, 9))
def test_each_step_of_a_text_is_allowed(text, left):
    rules = ByteRules(BYTES)
    tokens = np.array([[FIRST_BYTE + byte for byte in text.encode()]], np.int64)
    for length in range(tokens.shape[1]):
        forbidden = rules.forbidden(tokens[:, :length], np.array([left]))
        assert not forbidden[0, tokens[0, length]]
    assert not rules.open_characters(tokens)
    assert not rules.forbidden(tokens, np.array([left]))[0, END]


@given(st.binary(min_size=1, max_size=6))
def test_bytes_that_form_no_text_are_forbidden_somewhere(raw):
    rules = ByteRules(BYTES)
    tokens = np.array([[*(FIRST_BYTE + byte for byte in raw), END]], np.int64)
    allowed = all(
        not rules.forbidden_among(tokens[:, :length], np.array([9]), tokens[:, length : length + 1])
        for length in range(tokens.shape[1])
    )
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        assert not allowed
    else:
        assert allowed


def test_a_vocabulary_without_byte_pieces_has_no_rules():
    assert byte_rules(np.full(10, NOT_A_BYTE, np.int16)) is None
    assert byte_rules(BYTES) is not None
