"""
Unit tests: pure and instant. Those that state properties try the same examples every time, so that a run says the same of the same code.
"""

from hypothesis import settings

settings.register_profile("same", derandomize=True, deadline=None, database=None)
settings.load_profile("same")
