"""An evaluation as text for a terminal."""

from collections.abc import Iterator

from eval.metrics.registry import metric_title

from .results import Evaluation, GroupFlags

MAX_MISSING_NAMED = 8
_SHOWN_PROBLEMS = ("empty", "copy_of_source", "repeated", "looping")


def overview(evaluation: Evaluation) -> str:
    """Return group means with intervals, counts of flagged outputs, and the signatures."""
    lines = [
        f"{evaluation.system} on {evaluation.benchmark}: {evaluation.num_directions:,} directions"
    ]
    for group in evaluation.groups:
        gap = f", {group.missing:,} missing" if group.missing else ""
        lines.append(
            f"  {group.group:<18} {metric_title(group.metric):<7} {group.mean:6.2f}  (95 % "
            f"{group.low:.2f} to {group.high:.2f}; n = {group.count:,}{gap})"
        )
    lines += [_outputs_line(part) for part in evaluation.flags if part.group == "all"]
    for name in evaluation.metrics:
        for target, signature in evaluation.signatures[name].items():
            place = "" if target == "*" else f" into {target}"
            lines.append(f"  {metric_title(name)}{place}: {signature}")
    return "\n".join(lines)


def problems(evaluation: Evaluation) -> Iterator[str]:
    """Yield warnings and errors, such as directions that failed or have no file."""
    for note in evaluation.notes:
        yield f"warning: {note}"
    for direction, reason in evaluation.failed.items():
        yield f"error: {direction} was not scored: {reason}"
    if evaluation.missing:
        more = len(evaluation.missing) - MAX_MISSING_NAMED
        named = ", ".join(evaluation.missing[:MAX_MISSING_NAMED])
        named += f" and {more:,} more" if more > 0 else ""
        yield (
            f"warning: {len(evaluation.missing):,} requested directions have no file: {named}; no "
            f"mean includes them (evaluation.json lists all)"
        )


def _outputs_line(part: GroupFlags) -> str:
    shares = [f"{part.flags.get(code, 0) / part.lines:.2%}" for code in _SHOWN_PROBLEMS]
    text = (
        f"  of {part.lines:,} lines {shares[0]} are empty, {shares[1]} equal to the source, "
        f"{shares[2]} the same as another, {shares[3]} repeat themselves"
    )
    if part.judged:
        text += f"; {part.right / part.judged:.1%} of {part.judged:,} in the target language"
    if part.reference_share is not None:
        text += f" (references: {part.reference_share:.1%})"
    return text
