"""A small study without errors, which each test spoils in one way."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

HEADER = (
    "study,item_id,set,system,src_lang,tgt_lang,src_text,tgt_text,rater_id,score,src_incoherent,"
    "tgt_incoherent,stratum,timestamp,protocol_version"
).split(",")
Rows = list[dict[str, Any]]


def clean_rows(
    *,
    items: int = 120,
    calibration: int = 50,
    systems: tuple[str, ...] = ("base", "big"),
    target: str = "fra_Latn",
    study: str = "A",
    severity: tuple[float, ...] = (0.0, 0.1, -0.1),
    seed: int = 0,
) -> Rows:
    """Return rows of one direction rated by three raters."""
    random = np.random.default_rng(seed)
    rows: Rows = []

    def add(item: str, role: str, system: str, worth: float, stratum: str) -> None:
        own = role == "eval"
        for number, severe in enumerate(severity):
            score = int(np.clip(np.round(worth - severe + random.normal(0, 0.5)), 1, 5))
            rows.append(
                {
                    "study": study, "item_id": item, "set": role, "system": system,
                    "src_lang": "eng_Latn", "tgt_lang": target if own else "eng_Latn",
                    "src_text": f"The {role} sentence {item} is here.",
                    "tgt_text": f"La phrase {item} de {system or role} est ici.",
                    "rater_id": f"{target[:3]}{number}", "score": score, "src_incoherent": 0,
                    "tgt_incoherent": 0, "stratum": stratum, "timestamp": "",
                    "protocol_version": "1",
                }
            )  # fmt: skip

    for system_number, system in enumerate(systems):
        for item in range(items):
            worth = 3.2 + 0.4 * system_number + random.normal(0, 0.9)
            add(f"s{item}", "eval", system, worth, "")
    for item in range(calibration):
        add(f"c{item}", "calibration", "", 1 + item % 5, str(1 + item % 5))
    return rows


@pytest.fixture
def study() -> Rows:
    return clean_rows()


@pytest.fixture
def make_study() -> Callable[..., Rows]:
    return clean_rows


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes rows as CSV."""

    def write(rows: Rows, name: str = "ratings.csv") -> Path:
        path = tmp_path / name
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        return path

    return write
