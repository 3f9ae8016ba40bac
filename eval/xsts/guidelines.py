"""Instructions for raters, as one self-contained page."""

from pathlib import Path

from nllb.io.page import Column, Page, heading, notice, table
from nllb.io.text import read_table

PROTOCOL = "nllb-xsts-1"
"""Version of these instructions; it changes with the wording of the scale."""


def guidelines_page() -> Page:
    """Return the guidelines: the task, the scale, the flags, good habits."""
    scale = list(read_table(Path(__file__).with_suffix(".tsv")))
    page = Page(
        "How to compare two sentences",
        subtitle=f"Instructions for raters, version {PROTOCOL}",
    )
    page.add(
        "What you do",
        "You see two sentences, in two languages or in one. Rate how similar their meanings are. "
        "Do not judge which sentence is better, or how well either is written.",
        notice(
            "For each row fill in three cells:",
            (
                "sentence 1 incoherent: y if it cannot be understood, else leave it empty",
                "sentence 2 incoherent: the same for the second sentence",
                "score: one whole number from 1 to 5",
            ),
        ),
    )
    page.add(
        "The scale",
        table(
            [
                Column(title="Score", kind="number", digits=0),
                Column(title="Name"),
                Column(title="Meaning"),
                Column(title="Borderline cases"),
            ],
            [[float(r["score"]), r["name"], r["meaning"], r["border"]] for r in scale],
            caption="Five steps; if in doubt between two, read the borderline cases",
            sortable=False,
        ),
        heading("One example of each"),
        table(
            [
                Column(title="Score", kind="number", digits=0),
                Column(title="Sentence 1"),
                Column(title="Sentence 2"),
            ],
            [[float(row["score"]), row["example_1"], row["example_2"]] for row in scale],
            caption="Examples in one language, so that everybody can follow them",
            sortable=False,
        ),
    )
    page.add(
        "When a sentence is incoherent",
        "Flag a sentence if at least half of it is not in the stated language, if it is not "
        "displayed, or if most of it makes no sense. The flags are independent of each other and "
        "of the score: two incoherent sentences can be the same nonsense, which is a 5.",
        "Do not flag capital letters, punctuation, or small typing and grammar mistakes.",
    )
    page.add(
        "Good habits",
        notice(
            "",
            (
                "Read both sentences to the end before you decide.",
                "Rate each row on its own. Some rows appear twice on purpose.",
                "Use the whole scale, including 1 and 5.",
                "Do not use a translation program, and do not discuss rows with other raters.",
                "Do not change the first columns, and do not sort or delete rows.",
                "Save the file in the format in which you received it. If you cannot rate a row, "
                "write the reason under comment.",
            ),
        ),
    )
    return page
