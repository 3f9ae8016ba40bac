"""What a pickle would do, read without doing it.

A pickle is a program for a stack machine. torch's `weights_only` refuses classes and functions that
it does not know; this looks through the program before that, for what it names and how far its
tuples unfold.
"""

import pickletools
from typing import Any, BinaryIO

MAX_TUPLE_ITEMS = 1_000_000
"""Most values that one tuple may stand for. A tuple of the same tuple twice, 60 levels deep, is a
few bytes long, and whoever computes its hash never ends."""
_MARK = -1


def named_globals(stream: BinaryIO) -> set[str]:
    """Return the classes and functions that the pickle at the stream's position names.

    The stream stands behind the pickle afterwards.

    Raises:
        ValueError: it is damaged, or a tuple of it stands for too many values.
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
                    raise ValueError(f"operation {operation.name}, which torch.save never writes")
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
    """Do to the stack what an operation does, with how many values each entry stands for."""
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
            raise ValueError(f"a tuple of its pickle stands for {items:,} values")
        stack.append(_MARK if kind.name == "mark" else items)
