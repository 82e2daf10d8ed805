# mypy: disallow-untyped-calls=False
# (twisted.application is not annotated)
"""
The appliance as a Twisted service.

It takes the state directory, has the core recover and begin, then lets operators and S3 clients in.
"""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.application.service import IServiceCollection, MultiService
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint, UNIXServerEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.logger import ILogObserver, Logger
from twisted.python.failure import Failure
from twisted.web.server import Site

from coldstore.appliance.certificates import Certificates, Present
from coldstore.appliance.clocks import TimeOfDay
from coldstore.appliance.core import Core
from coldstore.appliance.library import VirtualCartridges
from coldstore.appliance.logs import observer
from coldstore.appliance.machine import Machine
from coldstore.appliance.standby import Turn, Watch
from coldstore.config.schema import Configuration
from coldstore.interfaces.metadata import AnotherAppliance, RecordElsewhere, SchemaTooNew, SchemaTooOld
from coldstore.interfaces.staging import DiskFault
from coldstore.model.errors import MetadataUnavailable
from coldstore.model.hosts import Host
from coldstore.s3.secure import TlsFactory
from coldstore.util.servicemanager import tell
from coldstore.util.statedir import StateDirectory, StateDirectoryInUse
from coldstore.util.thishost import boot_id, host_name, machine_id
from coldstore.util.workers import Workers
from coldstore.work.alerts import Alerts

PLAIN_FAULTS = (
    OSError,
    CannotListenError,
    StateDirectoryInUse,
    AnotherAppliance,
    DiskFault,
    MetadataUnavailable,
    RecordElsewhere,
    SchemaTooNew,
    SchemaTooOld,
    VirtualCartridges,
)
"""Reasons not to start that an operator understands without a traceback."""
TAKEN_OVER_STATUS = 1


def this_host() -> Host:
    """Return the machine that this process runs on."""
    return Host(name=host_name(), machine_id=machine_id(), boot_id=boot_id())


class Appliance(MultiService):
    """One ColdStore."""

    log = Logger()

    def __init__(
        self,
        configuration: Configuration,
        reactor: Any,
        *,
        log_file: str | None = None,
        host: Host | None = None,
        end_process: Callable[[int], Any] = os._exit,
    ) -> None:
        """
        :param host: this machine, None to ask it
        :param end_process: ends the process at once with a status: nothing of ours runs any more when it returns
        """
        super().__init__()
        self._host = host or this_host()
        self._end_process = end_process
        self._configuration = configuration
        self._reactor = reactor
        self._log_file = log_file
        self._starting: Deferred[None] | None = None
        self._closing: list[Callable[[], Any]] = []
        self._reload: Callable[[], object] = lambda: None

    def setServiceParent(self, parent: Any) -> None:
        """Give the application our log observer, then join it as any service does."""
        settings = self._configuration.logging
        if hasattr(parent, "setComponent"):
            parent.setComponent(ILogObserver, observer(settings.level, settings.format, self._log_file))
        super().setServiceParent(IServiceCollection(parent, parent))

    def startService(self) -> None:
        """Begin to start; a failure ends the process with exit status 1."""
        super().startService()
        self._hear_hangup()
        self._starting = Deferred.fromCoroutine(self._start())
        self._starting.addErrback(self._failed_to_start)

    def _failed_to_start(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            return
        if failure.check(*PLAIN_FAULTS):
            self.log.critical(
                "cannot start: {reason}", reason=str(failure.value) or type(failure.value).__name__
            )
        else:
            self.log.failure("cannot start", failure)
        # twistd has no other way to end with a status of its service's choice.
        self._reactor.addSystemEventTrigger("after", "shutdown", os._exit, 1)
        self._reactor.callLater(0, self._reactor.stop)

    def stopService(self) -> "Deferred[None]":
        """Stop; mounted cartridges stay mounted and are taken over by the next start."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._tell_service_manager("STOPPING=1")
        if self._starting is not None:
            self._starting.cancel()
        stopped = MultiService.stopService(self)
        if isinstance(stopped, Deferred):
            await stopped
        while self._closing:
            await _maybe(self._closing.pop()())

    # ── starting ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _start(self) -> None:
        settings = self._configuration
        turn = Turn(
            is_standby=settings.metadata.standby, clock=self._reactor, tell=self._tell_service_manager
        )
        path = Path(settings.state_directory)

        async def take_directory() -> StateDirectory:
            return StateDirectory(path, host=self._host.name)

        state = await turn.take(take_directory)
        self._closing.append(state.release)
        machine = Machine(settings, self._reactor, host=self._host, turn=turn, directory=state)
        core = Core(settings, machine)
        core.setServiceParent(self)
        self._closing.append(core.end)
        await core.begin(on_begun=lambda: self._watch(core))

        socket = Path(settings.admin_socket)
        socket.unlink(missing_ok=True)
        admin = UNIXServerEndpoint(self._reactor, str(socket), mode=0o600)
        await self._listen(admin, Site(core.operator.private().resource()), f"operators at {socket}")
        await self._listen(
            TCP4ServerEndpoint(self._reactor, settings.operator.port, interface=settings.operator.address),
            Site(core.operator.public().resource()),
            "health and metrics",
        )
        await self._serve_s3(core)
        core.control.is_serving = True
        self._tell_service_manager("READY=1\nSTATUS=serving S3" if turn.has_stood_by else "READY=1")
        for remark in core.control.remarks:
            self.log.warn("{remark}", remark=remark)

    def _tell_service_manager(self, fact: str) -> None:
        try:
            tell(os.environ, fact)
        except OSError as error:
            self.log.warn("the service manager cannot be told {fact}: {error}", fact=fact, error=error)

    def _watch(self, core: Core) -> None:
        """Notice from now on when another appliance takes over."""
        watch = Watch(
            store=core.store, tenure=core.tenure, clock=self._reactor, on_taken_over=self._taken_over
        )
        self._closing.append(watch.stop)
        watch.start()

    def _taken_over(self, sentence: str) -> None:
        """
        End at once, in this turn of the reactor: then no command is begun and nobody is told of a success any more.

        It is the end that kill -9 makes, after which everything recovers. Commands under way are left to end by themselves, as
        always, and movers end with us.
        """
        self.log.critical("{sentence}: this one stops now and begins nothing more", sentence=sentence)
        self._tell_service_manager(f"STATUS={sentence}")
        self._end_process(TAKEN_OVER_STATUS)

    async def _serve_s3(self, core: Core) -> None:
        """Listen for S3 clients wherever it is wanted."""
        certificates: list[Present] = []
        for listener in self._configuration.listeners:
            common = {"interface": listener.interface, "backlog": listener.backlog}
            endpoint = TCP4ServerEndpoint(self._reactor, listener.port, **common)
            if listener.tls is None:
                await self._listen(endpoint, core.site, "S3")
            else:
                certificates.append(Present(listener.tls))
                factory = TlsFactory(certificates[-1], False, core.site, self._reactor)
                await self._listen(endpoint, factory, "S3 over TLS")
        if certificates:
            self._look_after(certificates, core)

    def _look_after(self, certificates: list[Present], core: Core) -> None:
        """Read certificates anew when they change, or somebody asks for it."""
        clock = TimeOfDay(self._reactor)
        threads = Workers(self._reactor, 1, "certificates")
        looked_after = Certificates(
            certificates,
            alerts=Alerts(store=core.store, clock=clock),
            clock=clock,
            in_thread=threads.run,
            warn_seconds=self._configuration.server.tls.warn_before_seconds,
        )
        self._closing.append(threads.stop)
        self._closing.append(looked_after.stop)
        core.control.on_reload = lambda: Deferred.fromCoroutine(looked_after.reload())
        self._reload = lambda: core.control.reload().addErrback(
            lambda failure: self.log.failure("certificates could not be read", failure)
        )
        looked_after.start()

    def _hear_hangup(self) -> None:
        """Have SIGHUP read certificates anew, and end nothing: that is what it does to a process that does not hear it."""

        def reload(*_: object) -> None:
            self._reactor.callFromThread(lambda: self._reload())

        before = signal.signal(signal.SIGHUP, reload)
        self._closing.append(lambda: signal.signal(signal.SIGHUP, before))

    async def _listen(self, endpoint: IStreamServerEndpoint, site: IProtocolFactory, what: str) -> None:
        port: IListeningPort = await endpoint.listen(site)
        self._closing.append(port.stopListening)
        address = port.getHost()
        where = f" at {address.host}:{address.port}" if isinstance(address, IPv4Address | IPv6Address) else ""
        self.log.info("serving {what}{where}", what=what, where=where)


async def _maybe(result: Any) -> None:
    if isinstance(result, Deferred) or hasattr(result, "__await__"):
        await result
