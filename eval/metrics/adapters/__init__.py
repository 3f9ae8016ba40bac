"""Adapters of neural metrics: programs of their own, run by an interpreter that has the package.

They import nothing of this project, so that a path to the file is enough for any environment.
"""
