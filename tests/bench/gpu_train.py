"""Trains the bundled model further on a GPU that is at hand for a few minutes.

    python -m tests.bench.gpu_train pack OUT/train ARCHIVE [--megabytes 64]    # here
    PYTHONPATH=ARCHIVE/code python -m tests.bench.gpu_train train ARCHIVE BACK # where the GPU is
    python -m tests.bench.gpu_train merge OUT/train ARCHIVE BACK               # here

OUT/train is the folder of a training run, as `nllb run mini OUT` makes it. ARCHIVE contains all
that the GPU's machine needs besides Python and torch: code, weights, the encoder, and as many pairs
as the size allows. BACK has at most eight files of at most 16 MB; the same command continues from
them. After `merge`, `nllb run mini OUT` resumes from the new weights.
"""

import argparse
import sys
import time
from pathlib import Path

_STARTED = time.monotonic()


def run_command(arguments: list[str] | None = None) -> int:
    """Run one of the three commands."""
    options = _parser().parse_args(arguments)
    try:
        return {"pack": _pack, "train": _train, "merge": _merge}[options.command](options)
    except Exception as error:
        if type(error).__module__.split(".")[0] not in {"nllb", "tests"}:
            raise
        print(f"gpu_train: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    pack = commands.add_parser("pack", help="write an archive")
    pack.add_argument("run", type=Path)
    pack.add_argument("archive", type=Path)
    pack.add_argument("--megabytes", type=float, default=64, help="limit of the archive's size")
    pack.add_argument("--length", type=int, default=256, help="positions of a row")
    pack.add_argument("--seed", type=int, default=1, help="which pairs, if not all fit")
    train = commands.add_parser("train", help="train on the GPU")
    train.add_argument("archive", type=Path)
    train.add_argument("back", type=Path)
    train.add_argument("--minutes", type=float, default=9, help="end of everything")
    train.add_argument("--save-every", type=float, default=90, help="seconds")
    train.add_argument("--rows", type=int, default=128, help="rows of a batch")
    train.add_argument("--rate", type=float, help="peak learning rate instead of the run's")
    train.add_argument("--warm-up", type=int, default=100, help="steps")
    train.add_argument("--cool-down", type=float, default=0, help="share of the time")
    train.add_argument("--eager", action="store_true", help="do not try torch.compile")
    train.add_argument("--dry", action="store_true", help="on the CPU, few and small batches")
    train.add_argument("--steps", type=int, help="steps after which to stop")
    merge = commands.add_parser("merge", help="write a checkpoint of what came back")
    merge.add_argument("run", type=Path)
    merge.add_argument("archive", type=Path)
    merge.add_argument("back", type=Path)
    return parser


def _pack(options: argparse.Namespace) -> int:
    from tests.bench.gpu_training.archive import pack

    figures = pack(
        options.run,
        options.archive,
        max_bytes=int(options.megabytes * 1e6),
        length=options.length,
        seed=options.seed,
    )
    print(", ".join(f"{name} {value:,}" for name, value in figures.items()))
    return 0


def _train(options: argparse.Namespace) -> int:
    from tests.bench.gpu_training.gpu_loop import GpuRun, LoopOptions

    run = GpuRun(
        LoopOptions(
            archive=options.archive,
            out=options.back,
            started=_STARTED if not options.dry else time.monotonic(),
            minutes=options.minutes,
            margin_s=1 if options.dry else 15,
            save_every_s=options.save_every,
            rows=4 if options.dry else options.rows,
            device="cpu" if options.dry else "cuda",
            compile=not (options.eager or options.dry),
            rate=options.rate,
            warm_up=options.warm_up,
            cool_down=options.cool_down,
            max_steps=options.steps,
        )
    )
    run.run()
    return 0


def _merge(options: argparse.Namespace) -> int:
    from tests.bench.gpu_training.merging import merge

    state = merge(options.run, options.archive, options.back)
    print(f"checkpoint of step {state.step:,}, {state.tokens:,} labels")
    return 0


if __name__ == "__main__":
    sys.exit(run_command())
