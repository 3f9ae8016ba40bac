"""Command line flags for the device, dtype and memory of a translation model."""

import argparse
import sys
from typing import TYPE_CHECKING

from nllb.config import parse_size
from nllb.errors import ConfigError

if TYPE_CHECKING:
    from nllb.translation.translator import Translator


def engine_arguments(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--device",
        default="auto",
        metavar="D",
        help="cpu, cuda or auto (default), which uses a GPU if there is one",
    )
    parser.add_argument(
        "--dtype",
        choices=["auto", "int8", "float32", "bfloat16", "float16"],
        default="auto",
        help="dtype of the weights in memory; auto (default) is int8 on a CPU and bfloat16 on a "
        "GPU",
    )
    parser.add_argument(
        "--threads", type=int, metavar="N", help="number of CPU threads, default: all"
    )
    parser.add_argument(
        "--expert-memory",
        metavar="SIZE",
        help="maximum memory for the experts of a mixture-of-experts model, such as 8GiB; default: "
        "all experts are kept in memory",
    )


def check_search_arguments(arguments: argparse.Namespace) -> None:
    """Validate --beam and --threads before a model is loaded.

    Raises:
        ConfigError: a value is out of range.
    """
    from nllb.inference.generator import MAX_BEAM_SIZE
    from nllb.inference.kernels.library import MAX_THREADS

    for name, value, maximum in (
        ("--beam", arguments.beam, MAX_BEAM_SIZE),
        ("--threads", arguments.threads, MAX_THREADS),
    ):
        if value is not None and not 1 <= value <= maximum:
            raise ConfigError(f"{name} is {value}; it must be 1 to {maximum}")


def load_translator(arguments: argparse.Namespace, *, similarity: bool = False) -> "Translator":
    """Load the model of `--model` with the engine flags, and print its memory plan.

    `similarity` compares outputs with their sources, for the flag `meaning`.
    """
    from nllb.translation.translator import Translator

    def report(plan: str) -> None:
        if not arguments.quiet:
            print(plan, file=sys.stderr, flush=True)

    memory = arguments.expert_memory
    return Translator.load(
        arguments.model,
        device=arguments.device,
        dtype=arguments.dtype,
        expert_memory=None if memory is None else parse_size(memory),
        num_threads=arguments.threads,
        similarity=similarity,
        report=report,
    )
