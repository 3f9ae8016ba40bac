"""Build the optional compiled kernel; everything else stands in pyproject.toml."""

from setuptools import setup

setup()
