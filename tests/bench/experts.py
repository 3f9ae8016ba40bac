"""The mixture of experts compared with transformers' NllbMoe: `python -m tests.bench experts`.

One layer with 128 experts, d 512, inner 2048, one thread, 1 to 960 tokens; ours in float32 (with
equal results) and in int8.
"""

import argparse
import sys
from functools import partial

from tests.bench.measuring import (
    environment,
    interleave,
    print_summary,
    summarize,
    write_results,
)

NUM_EXPERTS, DIM, INNER = 128, 512, 2048


def main(argv: list[str] | None = None) -> int:
    """Measure, print and write tests/bench/results/experts.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 4, 8, 32, 128, 960])
    arguments = parser.parse_args(argv)
    import torch
    from transformers import NllbMoeConfig
    from transformers.models.nllb_moe.modeling_nllb_moe import NllbMoeSparseMLP

    from nllb.inference.engine import TorchEngine, mixture_of_experts
    from nllb.inference.kernels.compiled_engine import int8_engine
    from nllb.model.configuration import ModelConfig
    from nllb.model.transformer import Transformer

    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = ModelConfig(
        vocabulary_size=64,
        model_dim=DIM,
        encoder_layers=1,
        decoder_layers=1,
        encoder_heads=8,
        decoder_heads=8,
        encoder_ffn_dim=INNER,
        decoder_ffn_dim=64,
        num_experts=NUM_EXPERTS,
        encoder_sparse_step=1,
        expert_output_masking=0.2,
    )
    weights = Transformer(config).state_dict()
    theirs = NllbMoeSparseMLP(
        NllbMoeConfig(d_model=DIM, num_experts=NUM_EXPERTS, moe_token_dropout=0.2), INNER
    ).eval()
    name = "encoder.layers.0.feed_forward"
    with torch.no_grad():
        theirs.router.classifier.weight.copy_(weights[f"{name}.router.weight"])
        for number in range(NUM_EXPERTS):
            expert = theirs.experts[f"expert_{number}"]
            for linear, part in ((expert.fc1, "inner"), (expert.fc2, "outer")):
                linear.weight.copy_(weights[f"{name}.experts.{number}.{part}.weight"])
                linear.bias.copy_(weights[f"{name}.experts.{number}.{part}.bias"])
    exact = TorchEngine(config, weights)
    int8 = int8_engine(config, weights, num_threads=1)

    def inputs(size: int, seed: int) -> torch.Tensor:
        return torch.randn(size, DIM, generator=torch.Generator().manual_seed(seed))

    def run_theirs(size: int, seed: int) -> torch.Tensor:
        padding = torch.zeros(size, dtype=torch.bool)
        return theirs(inputs(size, seed)[None], padding)[0][0]

    def run_ours(engine, size: int, seed: int) -> torch.Tensor:
        sparse = (engine._encoder if engine is exact else engine._layers["encoder"])[0]
        if engine is exact:
            expert = partial(engine.store.expert_weights, sparse.name)
        else:
            expert = engine.experts_of(sparse.name, size)
        return mixture_of_experts(inputs(size, seed), sparse.router, expert, output_masking=0.2)

    runs = []
    with torch.inference_mode():
        for seed in range(3):
            expected = run_theirs(40, seed)
            assert torch.allclose(run_ours(exact, 40, seed), expected, atol=1e-4)
            error = (run_ours(int8, 40, seed) - expected).norm() / expected.norm()
            assert error < 0.03, float(error)
        for size in arguments.sizes:
            repeats = max(1, 32 // size)

            def repeated(call, size=size, repeats=repeats):
                def run(seed: int) -> int:
                    for number in range(repeats):
                        call(size, seed * 1000 + number)
                    return size * repeats

                return run

            contestants = {
                "ours fp32": repeated(partial(run_ours, exact)),
                "ours int8": repeated(partial(run_ours, int8)),
                "transformers": repeated(run_theirs),
            }
            runs += interleave(f"{size} tokens", contestants, rounds=arguments.rounds)
    summary = []
    for mine in ("ours fp32", "ours int8"):
        part = [run for run in runs if run.contestant in (mine, "transformers")]
        summary += [row | {"case": f"{row['case']}, {mine}"} for row in summarize(part, mine)]
    print_summary(summary)
    write_results("experts", runs, summary, environment=environment(threads=1, dim=DIM))
    return 0


if __name__ == "__main__":
    sys.exit(main())
