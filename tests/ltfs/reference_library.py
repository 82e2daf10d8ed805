"""
A library whose cartridges are read and written by the reference ``ltfs``.

Robot and drives are those of the virtual library (``mtx``, ``mt``); its ``mtx`` is wrapped so that after every call the link
``drives/N`` leads to the folder of the cartridge that is in drive N now. That link is the drive for the ``file`` back end of ``ltfs``.
"""

import os
import sys
from pathlib import Path
from typing import Any

from coldstore.tape.ltfs import LtfsTools
from coldstore.vtl.library import LibrarySpec, barcodes_of, create_library
from tests.contract.filesystem_rigs import CARTRIDGE_SETTINGS

CHECKOUT = Path(__file__).resolve().parent.parent.parent

_WRAPPER = """#!/bin/sh
'''exec' '{interpreter}' -I "$0" "$@"
'''
import fcntl, os, subprocess, sys
sys.path.insert(0, {checkout!r})
from coldstore.vtl.library import Library
with open({folder!r} + "/robot.lock", "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    status = subprocess.call([{mtx!r}, *sys.argv[1:]])
    for drive in Library({library!r}).elements().drives:
        link = "%s/drives/%d" % ({folder!r}, drive.number)
        wanted = None if drive.barcode is None else "%s/tapes/%s" % ({folder!r}, drive.barcode)
        present = os.readlink(link) if os.path.islink(link) else None
        if wanted != present:
            if present is not None:
                os.unlink(link)
            if wanted is not None:
                os.symlink(wanted, link)
sys.exit(status)
"""


class ReferenceLibrary:
    """
    One library in a folder.

    :param tools: the installed LTFS programs.
    """

    def __init__(self, folder: Path, tools: LtfsTools, spec: LibrarySpec) -> None:
        self.folder = folder
        self._tools = tools
        self._spec = spec
        self._library = folder / "library"
        create_library(str(self._library), spec)
        for name in ("bin", "drives", "tapes"):
            (folder / name).mkdir()
        capacity = str(spec.capacity_bytes // 1024**2)
        for barcode in barcodes_of(spec):
            tape = folder / "tapes" / barcode
            tape.mkdir()
            settings = CARTRIDGE_SETTINGS.replace(">200<", f">{capacity}<")
            (tape / "filedebug_tc_conf.xml").write_text(settings)
        self.mtx = folder / "bin" / "mtx"
        self.mtx.write_text(
            _WRAPPER.format(
                interpreter=sys.executable,
                checkout=str(CHECKOUT),
                folder=str(folder),
                library=str(self._library),
                mtx=str(self._library / "bin" / "mtx"),
            )
        )
        self.mtx.chmod(0o755)

    def settings(self) -> dict[str, Any]:
        """What the appliance's configuration says of it."""
        devices = self._library / "dev"
        return {
            "library": "scsi",
            "changer": str(devices / "changer"),
            "drives": [
                {
                    "element": number,
                    "device": str(devices / f"nst{number}"),
                    "generic_device": str(self.folder / "drives" / str(number)),
                }
                for number in range(self._spec.drives)
            ],
            "tools": {
                "mtx": str(self.mtx),
                "mt": str(self._library / "bin" / "mt"),
                "ltfs": self._tools.ltfs,
                "mkltfs": self._tools.mkltfs,
                "ltfsck": self._tools.ltfsck,
                "umount": self._tools.umount[0],
                "ltfs_options": ["-o", "tape_backend=file"],
                "mkltfs_options": ["-e", "file"],
                "ltfsck_options": ["-e", "file"],
            },
        }

    def tape(self, barcode: str) -> Path:
        """The folder that plays a cartridge."""
        return self.folder / "tapes" / barcode

    def environment(self) -> dict[str, str]:
        """What the LTFS programs need."""
        return {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
