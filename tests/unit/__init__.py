"""
Unit tests: pure and instant. Those that state properties try the same examples every time, so that a run says the same of the same code.
"""

import os
import tempfile

from hypothesis import settings
from hypothesis.configuration import set_hypothesis_home_dir

# What hypothesis learns of our source by reading it is kept out of the checkout.
set_hypothesis_home_dir(os.path.join(tempfile.gettempdir(), f"coldstore-hypothesis-{os.getuid()}"))
settings.register_profile("same", derandomize=True, deadline=None, database=None)
settings.load_profile("same")
