"""The small executables of ``bin/``: each runs one program of the virtual library with the interpreter that wrote it."""

import os
import sys

PROGRAMS = ("mtx", "mt", "ltfs", "mkltfs", "ltfsck", "umount")

# The first lines are both shell and Python: a "#!" line with the interpreter's own path fails on blanks and beyond 255 bytes.
# ``-I`` keeps the caller's directory, PYTHONPATH and user site away; the path of this package is put in by hand.
_TEXT = """#!/bin/sh
'''exec' {interpreter} -I "$0" "$@"
'''
import sys
sys.path.insert(0, {root!r})
from coldstore.vtl.{program} import main
sys.exit(main(sys.argv[1:], {directory!r}))
"""


def write_launchers(directory: str) -> None:
    """Write or renew ``bin/*`` of a library."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    interpreter = "'" + sys.executable.replace("'", "'\"'\"'") + "'"
    for program in PROGRAMS:
        text = _TEXT.format(interpreter=interpreter, root=root, program=program, directory=directory)
        path = os.path.join(directory, "bin", program)
        beside = f"{path}.{os.getpid()}.new"
        with open(beside, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.chmod(beside, 0o755)
        os.rename(beside, path)
