"""There is one way for a version to go, and it asks whether the version is under lock."""

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import coldstore

ROOT = Path(coldstore.__path__[0])
WAYS = {
    r"UPDATE versions SET [^\"]*deleted_at": {"metadata/sql/standing.py"},
    r"\"deleted_at\"(:|\])": set(),
    r"DELETE FROM versions": {"metadata/sql/layouts.py"},
    r"\bset_state\(.*\"doomed\"": {
        "metadata/sql/layouts.py",
        "metadata/sql/restores.py",
        "metadata/sql/uploads.py",
    },
    r"\"(lock_mode|retain_until|legal_hold)\"(:|\])": {"metadata/sql/locks.py"},
}
"""What is written to have a version go, its bytes, or its lock, and the modules of the metadata that write it."""


class WaysTests(SynchronousTestCase):
    """Whoever adds a way has to think of locks."""

    def test_ways(self) -> None:
        """Each is written where it is known to be, and nowhere else."""
        sources = {
            str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
            for path in sorted(ROOT.glob("metadata/**/*.py"))
        }
        for way, expected in WAYS.items():
            found = {name for name, source in sources.items() if re.search(way, source)}
            self.assertEqual(found, expected, way)
