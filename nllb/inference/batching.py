"""Groups segments into batches."""

from collections.abc import Sequence


def plan_batches(lengths: Sequence[int], *, max_tokens: int, max_sentences: int) -> list[list[int]]:
    """Group item indices by length, longest first.

    This order minimises padding and lets parallel workers finish at about the same time. A batch
    has at most `max_sentences` items, and its number of items times its longest length is at most
    `max_tokens`. Only a batch of a single item may exceed `max_tokens`.
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
