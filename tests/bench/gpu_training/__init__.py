"""Trains a decoder on the pretrained encoder on one GPU, with nothing but torch.

`archive`, `vocabulary_of_words` and `merging` run where the project is installed; the other modules
import only torch and are copied to the GPU's machine.
"""
