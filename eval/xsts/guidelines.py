"""The instructions that raters read, as one page that needs no network."""

from pathlib import Path

from nllb.io.page import Column, Page, heading, notice, table
from nllb.io.text import read_table

PROTOCOL = "nllb-xsts-1"
"""Version of these instructions; changes with any change of the scale's wording."""


def guidelines_page() -> Page:
    """Return the guidelines: the task, the scale, the flags, good habits."""
    scale = list(read_table(Path(__file__).with_suffix(".tsv")))
    page = Page(
        "How to compare two sentences",
        subtitle=f"Instructions for raters, version {PROTOCOL}",
    )
    page.add(
        "What you do",
        "You see two sentences, in two languages or in one. Say how far they mean the same. You "
        "do not judge which is better, and you do not judge how nice either is.",
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
                Column(title="Where the border lies"),
            ],
            [[float(r["score"]), r["name"], r["meaning"], r["border"]] for r in scale],
            caption="Five steps; when in doubt between two, read the borders",
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
        "Flag a sentence if at least half of it is in another language than stated, if it is not "
        "displayed, or if most of it makes no sense. The flags do not depend on each other or on "
        "the score: two incoherent sentences can be the same nonsense, and that is a 5.",
        "Do not flag for capital letters, punctuation, small typing or grammar mistakes.",
    )
    page.add(
        "Good habits",
        notice(
            "",
            (
                "Read both sentences to the end before you decide.",
                "Take each row by itself. Rows come back, and that is meant.",
                "Use the whole scale: 1 and 5 are for use.",
                "Do not use a translation program, and do not talk about rows with other raters.",
                "Leave the first columns as they are, and do not sort out or delete rows.",
                "Save the file in its form. If you cannot rate a row, write why under comment.",
            ),
        ),
    )
    return page
