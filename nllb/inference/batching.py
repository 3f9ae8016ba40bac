"""Which segments are translated together."""

from collections.abc import Sequence


def plan_batches(lengths: Sequence[int], *, max_tokens: int, max_sentences: int) -> list[list[int]]:
    """Group item numbers by length, longest first: little is padded and no worker ends late.

    A batch holds at most `max_sentences` items, and items times the longest at most `max_tokens`
    (a single item may be longer).
    """
    order = sorted(range(len(lengths)), key=lambda item: -lengths[item])
    batches: list[list[int]] = []
    for item in order:
        last = batches[-1] if batches else None
        if last is None or len(last) >= max_sentences:
            batches.append([item])
        elif (len(last) + 1) * lengths[last[0]] > max_tokens:
            batches.append([item])
        else:
            last.append(item)
    return batches
