"""The search with static shapes has the outputs of the search on the CPU."""

from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import torch

from nllb.errors import CheckpointError
from nllb.inference.device_search import DeviceSearches, can_search_on_device
from nllb.inference.engine import OutputChoice, TorchEngine
from nllb.inference.generator import SearchOptions
from nllb.inference.search import Output, search
from nllb.model.formats.open_model import open_model
from tests.unit.nllb.inference.test_search import END, make_jobs, make_model, make_sources

OPTIONS = [
    SearchOptions(beam_size=1),
    SearchOptions(beam_size=4, num_hypotheses=4),
    SearchOptions(beam_size=5, length_penalty=0.6),
    SearchOptions(beam_size=3, length_penalty=2.0, num_hypotheses=2),
]


@pytest.fixture(scope="module", params=["dense", "sparse"])
def engine(request, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param)
    make_model(request.param == "sparse").save_pretrained(path)
    opened = open_model(path)
    return TorchEngine(opened.config, opened.weights)


def assert_equal(found: list[list[Output]], expected: list[list[Output]]) -> None:
    assert [[o.token_ids for o in outputs] for outputs in found] == [
        [o.token_ids for o in outputs] for outputs in expected
    ]
    for one, other in zip(chain(*found), chain(*expected), strict=True):
        assert one.finished == other.finished
        assert one.score == pytest.approx(other.score, abs=1e-3)
        np.testing.assert_allclose(
            one.token_log_probabilities, other.token_log_probabilities, atol=1e-3
        )


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_outputs_are_those_of_the_search_on_the_cpu(engine, options) -> None:
    searches = DeviceSearches(engine)
    for count, seed in ((12, 1), (1, 2), (5, 3)):  # the buffers of the first are used again
        jobs = make_jobs(make_sources(count, seed), limit=20 + 3 * seed)
        expected = search(engine, jobs, options)
        assert_equal(searches.search(jobs, options), expected)
        assert len({outputs[0].token_ids for outputs in expected}) > count / 2


def test_forced_prefixes_and_limits_of_single_sentences(engine) -> None:
    options = SearchOptions(beam_size=3)
    jobs = make_jobs(make_sources(6), limit=16)
    jobs[1] = replace(jobs[1], prefix=(9, 11, 30))
    jobs[2] = replace(jobs[2], limit=3)
    jobs[4] = replace(jobs[4], prefix=(7,), limit=2)
    assert_equal(DeviceSearches(engine).search(jobs, options), search(engine, jobs, options))


@pytest.mark.parametrize("beam_size", [1, 4])
def test_a_shortlist_with_extra_tokens(engine, beam_size) -> None:
    options = SearchOptions(beam_size=beam_size)
    searches = DeviceSearches(engine)
    for seed in (1, 2):
        random = np.random.default_rng(seed)
        ids = np.sort(np.append(random.choice(np.arange(4, 100), 50, replace=False), END))
        projection = engine.restrict(ids)
        for extra_seed in (3, 4):
            random = np.random.default_rng(extra_seed)
            jobs = make_jobs(make_sources(7, extra_seed))
            extra = tuple(
                np.sort(random.choice(np.arange(100, 140), n, replace=False)) for n in range(7)
            )
            choice = OutputChoice(projection=projection, ids=ids, extra=extra)
            expected = search(engine, jobs, options, choice=choice)
            assert_equal(searches.search(jobs, options, choice), expected)


def test_scores_that_are_not_finite_are_an_error(engine) -> None:
    weights = engine.decoder_norm.weight
    saved = weights.clone()
    weights.fill_(torch.inf)
    try:
        with pytest.raises(CheckpointError, match="not finite"):
            DeviceSearches(engine).search(make_jobs(make_sources(2)), SearchOptions())
    finally:
        weights.copy_(saved)


@pytest.mark.parametrize(
    "options",
    [
        SearchOptions(beam_size=1, sampling=True),
        SearchOptions(no_repeat_ngram=2),
        SearchOptions(repetition_penalty=1.2),
        SearchOptions(min_output_tokens=3),
        SearchOptions(beam_size=60),
    ],
    ids=str,
)
def test_other_options_are_left_to_the_other_search(options) -> None:
    assert not can_search_on_device(options, vocabulary_size=100)
    assert can_search_on_device(SearchOptions(), vocabulary_size=100)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_cuda_graphs_have_the_outputs_of_the_cpu(engine) -> None:
    there = TorchEngine(engine.config, engine._weights, device="cuda")
    searches = DeviceSearches(there)
    for options in OPTIONS:
        for seed in (1, 2, 3):
            jobs = make_jobs(make_sources(12, seed))
            expected = search(engine, jobs, options)
            assert_equal(searches.search(jobs, options), expected)
