"""How our own Python programs (shim, mover) are started so that they find what this interpreter finds."""

import os
import sys
from collections.abc import Mapping

import coldstore


def python_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """
    Return the environment of a child program of ours.

    Its modules come from where ours come from, however this process was told (environment, working folder, path files).

    :param environment: what it has besides; a PATH is added when there is none.
    """
    source = os.path.dirname(next(iter(coldstore.__path__)))
    places = dict.fromkeys([source, *(place for place in sys.path if place)])
    return {"PATH": os.defpath, **environment, "PYTHONPATH": os.pathsep.join(places)}
