"""Training of a language identifier: text sampling, fastText, calibration, model card."""
