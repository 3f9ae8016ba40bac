"""Sentence encoders: the pretrained, static and combined ones, LASER, and how a name finds one."""
