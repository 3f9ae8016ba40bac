"""Ranges are the largest magnitudes that the matrices' inputs had."""

import torch

from nllb.model.input_ranges import measure_input_ranges
from nllb.model.pretrained_encoder import EncoderConfig, PretrainedEncoder

CONFIG = EncoderConfig(
    vocabulary_size=20, model_dim=16, num_layers=2, num_heads=2, ffn_dim=24, max_positions=9
)


def test_ranges_are_the_largest_of_all_sequences(randomize) -> None:
    encoder = PretrainedEncoder(CONFIG).eval()
    randomize(encoder, 1)
    sequences = [(0, 5, 2), (0, 7, 8, 9, 2)]
    ranges = measure_input_ranges(encoder, sequences)
    assert ranges.keys() == {f"layers.{n}.{name}" for n in (0, 1) for name in ("query", "inner")}
    with torch.inference_mode():
        inputs = [
            encoder(torch.tensor([ids]), layers=[1]).abs().amax((0, 1, 2)) for ids in sequences
        ]
    assert torch.equal(ranges["layers.1.query"], torch.maximum(*inputs))


def test_the_module_is_left_as_it_was(randomize) -> None:
    encoder = PretrainedEncoder(CONFIG).eval()
    measure_input_ranges(encoder, [(0, 5, 2)])
    assert not encoder.layers[0].query._forward_pre_hooks
