"""Acceptance and validation of GPU clusters: collect evidence, judge it against a contract, report."""

__version__ = "0.1.0"
