"""The mover of a mounted LTFS volume, with what only LTFS has: virtual attributes."""

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from coldstore.tape.mover import MoverProcess, checked_path
from coldstore.util.asynchronous import returns_deferred

NEVER_READ = frozenset({"sync", "driveCaptureDump"})
"""Virtual attributes that act when they are read."""

_PREFIX = "ltfs."


class LtfsMover(MoverProcess):
    """
    Moves bytes of one mountpoint.

    :param mountpoint: where the volume is mounted.
    :param is_plain: the volume is announced to be a plain folder (virtual library without FUSE).
    :param options: those of ``MoverProcess``.
    """

    def __init__(self, *, mountpoint: str, is_plain: bool, **options: Any) -> None:
        plain = ["plain"] if is_plain else []
        super().__init__(program=["coldstore.tape.mover_child", mountpoint, *plain], **options)

    @returns_deferred
    async def virtual_attributes(self, *, path: str, names: Sequence[str]) -> Mapping[str, bytes]:
        """
        Read virtual attributes, by their names after ``user.ltfs.``, of a file or of the volume ("" is the root).

        Those that are not there are left out.

        :raise NoSuchFileOnVolume: there is no such file.
        """
        if forbidden := NEVER_READ.intersection(names):
            raise ValueError(f"reading these attributes acts: {sorted(forbidden)}")
        wanted = [_PREFIX + name for name in names]
        answer = await self.ask(
            {"op": "get_attributes", "path": path and checked_path(path), "names": wanted}
        )
        return {
            name.removeprefix(_PREFIX): base64.b64decode(value) for name, value in answer["values"].items()
        }

    @returns_deferred
    async def set_virtual_attribute(self, name: str, value: bytes) -> None:
        """Set a virtual attribute of the volume, by its name after ``user.ltfs.``; to set ``sync`` writes the index."""
        await self.ask(
            {
                "op": "set_attribute",
                "path": "",
                "name": _PREFIX + name,
                "value": base64.b64encode(value).decode(),
            }
        )


LtfsMovers = Callable[[str, bool], LtfsMover]
"""Makes the mover of a mountpoint; the second argument says that it is an announced plain folder."""
