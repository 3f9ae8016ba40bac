"""Reports: one HTML file for people, JSON, Parquet, YAML and JUnit for programs."""

from .building import write_report

__all__ = ["write_report"]
