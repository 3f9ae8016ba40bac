"""Model cards: data, training and scores of a model, from the files of the runs."""

from .card import CardOptions, write_card

__all__ = ["CardOptions", "write_card"]
