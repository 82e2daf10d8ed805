"""Dumps of the metadata on a real machine: in a folder, made by a process of their own."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from zope.interface import implementer

from coldstore.config.schema import Configuration
from coldstore.interfaces.dumps import DumpFault, IDumps
from coldstore.interfaces.process import CommandFault, ICommandRunner
from coldstore.model.dumps import Dump
from coldstore.tape.children import python_environment
from coldstore.upkeep.dump_child import Order
from coldstore.upkeep.dumps import dumps_in
from coldstore.util.asynchronous import returns_deferred

MOST_SECONDS = 12 * 3600.0
"""A process that takes longer hangs: this is enough for a thousand million rows."""


@implementer(IDumps)
class ProcessDumps:
    """See ``IDumps``."""

    def __init__(
        self, settings: Configuration, runner: ICommandRunner, environment: Mapping[str, str]
    ) -> None:
        """:param environment: what the process has besides what Python needs"""
        self._settings = settings
        self._folder = Path(settings.dumps_directory)
        self._runner = runner
        self._environment = python_environment(environment)

    def kept(self) -> list[Dump]:
        """See ``IDumps``."""
        return dumps_in(self._folder)

    def free_bytes(self) -> int:
        """See ``IDumps``: of the nearest folder above when there is none yet."""
        folder = self._folder
        while not folder.exists():
            folder = folder.parent
        state = os.statvfs(folder)
        return state.f_bavail * state.f_frsize

    @returns_deferred
    async def make(self, at: float) -> None:
        """See ``IDumps``."""
        order = Order(state_directory=self._settings.state_directory, metadata=self._settings.metadata, at=at)
        descriptor = order.descriptor()
        try:
            completed = await self._runner.run(
                [sys.executable, "-m", "coldstore.upkeep.dump_child", str(descriptor)],
                timeout_seconds=MOST_SECONDS,
                descriptors=[descriptor],
                environment=self._environment,
            )
        except CommandFault as fault:
            raise DumpFault(fault.reason) from fault
        finally:
            os.close(descriptor)
        if not completed.is_success:
            said = completed.stderr.decode("utf-8", "replace").strip().splitlines()
            raise DumpFault(said[-1].removeprefix("coldstore: ") if said else completed.ending)

    def remove(self, dump: Dump) -> None:
        """See ``IDumps``."""
        (self._folder / dump.name).unlink(missing_ok=True)
