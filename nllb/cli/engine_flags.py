"""The flags of verbs that translate: where and how the model runs."""

import argparse


def engine_arguments(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--device", default="auto", metavar="D", help="cpu, cuda, auto")
    parser.add_argument(
        "--dtype",
        choices=["auto", "int8", "float32", "bfloat16", "float16"],
        default="auto",
        help="type of the weights in memory; auto: int8 on a CPU, bfloat16 on a GPU",
    )
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads, default: all")
    parser.add_argument(
        "--expert-memory", metavar="SIZE", help="memory for the experts of an MoE, such as 8GiB"
    )
