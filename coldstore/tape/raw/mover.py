"""The appliance's end of the mover of a raw tape."""

import os
from collections.abc import Callable, Sequence
from typing import Any

from coldstore.interfaces.mover import VolumeGone, VolumeSpace
from coldstore.tape.mover import Line, MoverProcess
from coldstore.util.asynchronous import returns_deferred

KERNEL_PROGRAM = "coldstore.tape.raw.child"


class RawMover(MoverProcess):
    """
    Moves bytes of one mount of one drive, and does before it what concerns the tape as a whole.

    :param program: the module of the child.
    :param device: the non-rewinding node.
    :param options: those of ``MoverProcess``.
    :ivar working_copy: the path of the mount's working copy; empty before there is a mount.
    :ivar capacity_bytes: what the cartridge holds by its kind, if the drive does not tell.
    :ivar gone: why there is no volume behind it any more; empty as long as none of its operations has noticed.
    """

    def __init__(self, *, program: str, device: str, **options: Any) -> None:
        super().__init__(program=[program, device], **options)
        self.working_copy = os.devnull
        self.capacity_bytes = 0
        self.gone = ""

    async def _do(
        self,
        command: Line,
        on_event: Callable[[Line], None] = lambda line: None,
        silence_seconds: float | None = None,
    ) -> Line:
        try:
            return await super()._do(
                {**command, "working_copy": self.working_copy}, on_event, silence_seconds
            )
        except VolumeGone as fault:
            self.gone = str(fault)
            raise

    @returns_deferred
    async def space(self) -> VolumeSpace:
        """See ``IMover``: as the cartridge's memory tells, else an estimate by what was written, without compression."""
        told = await self.ask({"op": "space"})
        total_bytes, free_bytes = told["room"] or (self.capacity_bytes, self.capacity_bytes - told["used"])
        if told["is_full"]:
            free_bytes = 0
        return VolumeSpace(total_bytes=total_bytes, free_bytes=max(0, free_bytes))

    async def sync(self, message: str, new_files: Sequence[str]) -> Line:
        """Write an index, unless nothing has changed."""
        return await self.ask({"op": "sync", "message": message, "new_files": [*new_files]})
