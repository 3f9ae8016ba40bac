"""Analyses a pickle without executing it.

A pickle is a program for a stack machine. torch's `weights_only` rejects unknown classes and
functions. Before torch reads a pickle, this module scans its operations for the globals that they
name and for the expanded size of its tuples.
"""

import pickletools
from typing import Any, BinaryIO

MAX_TUPLE_ITEMS = 1_000_000
"""Maximum number of values in an expanded tuple. A tuple that contains the same tuple twice, 60
levels deep, is a few bytes long, but computing its hash would never end."""
_MARK = -1


def named_globals(stream: BinaryIO) -> set[str]:
    """Return the names of the classes and functions in the pickle at the stream's position.

    Afterwards, the stream is positioned at the end of the pickle.

    Raises:
        ValueError: the pickle is damaged, or one of its tuples expands to too many values.
    """
    names: set[str] = set()
    stack: list[int] = []
    memo: dict[Any, int] = {}
    try:
        for operation, argument, _ in pickletools.genops(stream):
            match operation.name:
                case "GLOBAL":
                    module, _, name = str(argument).partition(" ")
                    names.add(f"{'builtins' if module == '__builtin__' else module}.{name}")
                    stack.append(1)
                case "STACK_GLOBAL" | "INST" | "OBJ" | "EXT1" | "EXT2" | "EXT4":
                    raise ValueError(
                        f"its pickle contains the operation {operation.name}, which torch.save "
                        f"never writes"
                    )
                case "BINPUT" | "LONG_BINPUT" | "PUT":
                    memo[argument] = stack[-1]
                case "MEMOIZE":
                    memo[len(memo)] = stack[-1]
                case "BINGET" | "LONG_BINGET" | "GET":
                    stack.append(memo[argument])
                case "DUP":
                    stack.append(stack[-1])
                case _:
                    _run(operation, stack)
    except (IndexError, KeyError):
        raise ValueError("its pickle is damaged") from None
    return names


def _run(operation: "pickletools.OpcodeInfo", stack: list[int]) -> None:
    """Apply an operation to a stack that stores the expanded number of values of each entry."""
    taken: list[int] = []
    kinds = [kind.name for kind in operation.stack_before]
    if "stackslice" in kinds:
        while (items := stack.pop()) != _MARK:
            taken.append(items)
        kinds = kinds[: kinds.index("mark")]
    for _ in kinds:
        items = stack.pop()
        if items == _MARK:
            raise IndexError
        taken.append(items)
    for kind in operation.stack_after:
        items = 1 + sum(taken) if kind.name == "tuple" else 1
        if items > MAX_TUPLE_ITEMS:
            raise ValueError(f"a tuple in its pickle expands to {items:,} values")
        stack.append(_MARK if kind.name == "mark" else items)
