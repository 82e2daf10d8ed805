"""Measurements: ratios against a baseline on the same machine, never absolute times."""
