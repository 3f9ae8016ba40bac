"""Added toxicity: toxic words in a translation that its source lacks."""
