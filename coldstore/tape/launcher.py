"""Starting shims so that they, and the ``ltfs`` behind them, outlive the service."""

import os
import sys
from collections.abc import Mapping

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorProcess
from twisted.internet.protocol import ProcessProtocol
from zope.interface import Interface, implementer

from coldstore.tape.children import python_environment
from coldstore.tape.mountrecord import SHIM_LOG


class ILtfsLauncher(Interface):
    """Starts the shim of a mount folder."""

    def launch(folder: str) -> Deferred[None]:
        """
        Start a shim for the wish in ``folder`` (``coldstore.tape.mountrecord``).

        Fires when it has been started; what becomes of it shows in the folder. The shim and its ``ltfs`` go on when this process ends,
        however it ends. Harmless to call twice: one shim takes the wish, the other one ends.

        :raise Exception: nothing was started.
        """


@implementer(ILtfsLauncher)
class ChildLauncher:
    """
    Starts shims as child processes in sessions of their own.

    Their standard streams go to a file, never to a pipe of the service, so they do not notice its end. Where a service manager ends
    all processes of a unit together with the service, it must be told not to (KillMode), or another launcher be used.

    :param environment: what shim and ``ltfs`` find in their environment, besides ``PYTHONPATH`` for the shim.
    """

    def __init__(
        self, *, reactor: IReactorProcess, environment: Mapping[str, str], python: str = sys.executable
    ) -> None:
        self._reactor = reactor
        self._python = python
        self._environment = python_environment(environment)

    def launch(self, folder: str) -> Deferred[None]:
        """See ``ILtfsLauncher``."""
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        output = os.open(
            os.path.join(folder, SHIM_LOG), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        try:
            self._reactor.spawnProcess(
                ProcessProtocol(),
                self._python,
                [self._python, "-m", "coldstore.tape.shim", folder],
                env=self._environment,
                childFDs={0: nothing, 1: output, 2: output},
            )
        finally:
            os.close(nothing)
            os.close(output)
        return succeed(None)
