# mypy: disallow-untyped-calls=False
# (twisted.application is not annotated)
"""
The appliance as a Twisted service.

Starting is recovering: take the state directory, open the metadata under a new epoch, recover the disk, undo or take up
what an earlier run left, then serve S3; the library is reconciled beside that, by the dispatcher's first round.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random, SystemRandom
from typing import Any

import treq
from treq.client import HTTPClient
from twisted.application.service import IServiceCollection, MultiService
from twisted.internet import ssl
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import SSL4ServerEndpoint, TCP4ServerEndpoint, UNIXServerEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, Logger
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.server import Site
from zope.interface import implementer

from coldstore.admin.endpoint import OperatorInterface
from coldstore.appliance import policies
from coldstore.appliance.form import demand_form
from coldstore.appliance.library import VirtualCartridges, build_tape_side, check_recorded_cartridges
from coldstore.appliance.logs import observer
from coldstore.config.schema import Configuration, Webhook
from coldstore.disk.staging import DiskStaging
from coldstore.interfaces.control import Health, IControl
from coldstore.interfaces.metadata import SchemaTooNew
from coldstore.interfaces.staging import DiskFault, StagingUsage
from coldstore.metadata.sqlite.store import SqliteStore
from coldstore.model.activity import DriveActivity
from coldstore.model.cartridges import VolumeForm
from coldstore.model.errors import MetadataUnavailable, StagingFull
from coldstore.model.objects import User
from coldstore.notify.webhook import WebhookNotifier, WebhookTarget
from coldstore.s3.auth import Authenticator
from coldstore.s3.ids import IdSource
from coldstore.s3.operations import S3Operations
from coldstore.s3.pace import pace_of
from coldstore.s3.resource import Endpoint
from coldstore.s3.site import S3Site
from coldstore.util.loops import Loop
from coldstore.util.servicemanager import tell
from coldstore.util.statedir import StateDirectory, StateDirectoryInUse
from coldstore.util.version import VERSION
from coldstore.util.workers import Workers
from coldstore.work.activity import ActivityBoard
from coldstore.work.bells import CalmBell, ReactorBell
from coldstore.work.compactor import Compactor
from coldstore.work.completing import Completer
from coldstore.work.contents import Contents
from coldstore.work.deliverer import Deliverer
from coldstore.work.dispatcher import Dispatcher
from coldstore.work.drives import record_drives
from coldstore.work.evictor import Evictor
from coldstore.work.expirer import Expirer
from coldstore.work.janitor import Janitor
from coldstore.work.leftovers import Leftovers
from coldstore.work.packer import Packer
from coldstore.work.reading import RecallSession
from coldstore.work.recovery import Recovery
from coldstore.work.renewing import Renewals
from coldstore.work.restorer import Restorer
from coldstore.work.sessions import SessionWriter
from coldstore.work.sweeper import Sweeper
from coldstore.work.watcher import Watcher
from coldstore.work.writing import ArchiveSession

PLAIN_FAULTS = (
    OSError,
    CannotListenError,
    StateDirectoryInUse,
    DiskFault,
    MetadataUnavailable,
    SchemaTooNew,
    VirtualCartridges,
)
"""Reasons not to start that an operator understands without a traceback."""
PASSING_FAULTS = (MetadataUnavailable, DiskFault, StagingFull)
"""Reasons for a loop to begin its round again later that an operator understands without a traceback."""
EVICTION_LOOK_SECONDS = 60.0
S3_LINGER_SECONDS = 5.0
S3_RING_SECONDS = 0.25
"""How often requests begin a round of a loop at most: a round looks at everything that waits."""
STATE_WAIT_SECONDS = 3.0


class Appliance(MultiService):
    """One ColdStore."""

    log = Logger()

    def __init__(self, configuration: Configuration, reactor: Any, *, log_file: str | None = None) -> None:
        super().__init__()
        self._configuration = configuration
        self._reactor = reactor
        self._log_file = log_file
        self._starting: Deferred[None] | None = None
        self._closing: list[Callable[[], Any]] = []

    def setServiceParent(self, parent: Any) -> None:
        """Give the application our log observer, then join it as any service does."""
        settings = self._configuration.logging
        if hasattr(parent, "setComponent"):
            parent.setComponent(ILogObserver, observer(settings.level, settings.format, self._log_file))
        super().setServiceParent(IServiceCollection(parent, parent))

    def startService(self) -> None:
        """Begin to start; a failure ends the process with exit status 1."""
        super().startService()
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
        settings, clock = self._configuration, self._reactor
        state = await self._state_directory()
        self._closing.append(state.release)
        unguessable, ordinary = SystemRandom(), Random(SystemRandom().getrandbits(128))

        store = SqliteStore(settings.sqlite_path, reactor=self._reactor)
        await store.open()
        self._closing.append(store.close)
        await check_recorded_cartridges(settings, store)
        epoch = await store.take_epoch(at=clock.seconds())
        self.log.info("epoch {epoch} of appliance {id}", epoch=epoch, id=store.appliance_id)

        staging = DiskStaging(
            reactor=self._reactor,
            random=ordinary,
            run=_base36(epoch),
            directory=Path(settings.staging_directory),
            capacity_bytes=settings.staging.capacity_bytes,
            min_free_bytes=settings.staging.min_free_bytes,
            shares=policies.disk_shares(settings),
            small_limit_bytes=settings.staging.small_object_bytes,
            segment_bytes=settings.staging.segment_bytes,
            hashing_threads=max(2, settings.staging.threads // 2),
            reading_threads=max(2, settings.staging.threads // 2),
        )
        await staging.start()
        self._closing.append(staging.stop)
        contents = Contents(store=store, staging=staging)
        self._closing.append(lambda: Deferred.fromCoroutine(contents.close()))

        await demand_form(
            VolumeForm(settings.tape.filesystem), state_directory=Path(settings.state_directory), store=store
        )
        board = ActivityBoard()
        sessions = SessionWriter(store=store, clock=clock, random=ordinary)
        tape = build_tape_side(
            settings, self._reactor, store=store, random=ordinary, board=board, sessions=sessions
        )
        self._closing.append(tape.stop)
        await record_drives(store, clock, tape.serials)

        rules = policies.class_rules(settings)
        region, day_seconds = settings.server.region, settings.time.day_seconds
        bells = {name: ReactorBell(clock) for name in LOOPS}
        leftovers = Leftovers(
            store=store, clock=clock, bell=bells["leftovers"], janitor_bell=bells["janitor"]
        )
        completer = Completer(store=store, clock=clock, region=region, day_seconds=day_seconds)
        evictor = Evictor(
            store=store,
            staging=staging,
            clock=clock,
            rules=rules,
            policy=policies.evict_policy(settings),
            rest_seconds=min(EVICTION_LOOK_SECONDS, max(0.5, settings.cache.linger_seconds)),
            janitor_bell=bells["janitor"],
        )
        sync_policy = policies.sync_policy(settings)

        renewals = Renewals(
            store=store,
            staging=staging,
            clock=clock,
            policy=policies.mount_policy(settings),
            attempts_max=settings.recall.attempts_max,
            on_held=bells["dispatcher"].ring,
        )

        def archive_session(bay: Any) -> ArchiveSession:
            return ArchiveSession(
                bay=bay,
                store=store,
                contents=contents,
                clock=clock,
                epoch=epoch,
                policy=sync_policy,
                on_archived=bells["janitor"].ring,
                renewals=renewals,
            )

        def recall_session(bay: Any, on_bad_source: Callable[[str, str], int]) -> RecallSession:
            return RecallSession(
                bay=bay,
                store=store,
                staging=staging,
                clock=clock,
                completer=completer,
                bell=bells["deliverer"],
                new_layout_id=lambda: f"{ordinary.getrandbits(128):032x}",
                on_bad_source=on_bad_source,
                doubtful=leftovers.note,
                portion_items=settings.recall.batch_members,
                renewals=renewals,
            )

        def make_room() -> None:
            evictor.make_room()
            bells["evictor"].ring()

        dispatcher = Dispatcher(
            bays=tape.bays,
            store=store,
            clock=clock,
            keeper=tape.keeper,
            policy=policies.mount_policy(settings),
            blame=policies.blame_policy(settings),
            region=region,
            bell=bells["dispatcher"],
            archive_session=archive_session,
            recall_session=recall_session,
            renewals=renewals,
            contents=contents,
            make_room=make_room,
        )
        packer = Packer(
            store=store,
            staging=staging,
            contents=contents,
            clock=clock,
            random=ordinary,
            rules=rules,
            policy=policies.archive_policy(settings),
            epoch=epoch,
            is_drive_idle=dispatcher.is_any_drive_idle,
            is_disk_pressing=lambda: evictor.pressure() > 0,
            drives_bell=bells["dispatcher"],
        )

        def room_wanted(size_bytes: int) -> None:
            evictor.make_room(size_bytes)
            packer.want_room()
            for name in ("evictor", "packer"):
                bells[name].ring()

        await Recovery(store=store, packer=packer, epoch=epoch).run()

        watcher = Watcher(
            store=store,
            staging=staging,
            clock=clock,
            record_path=settings.sqlite_path,
            record_free_bytes=lambda: _free_bytes(settings.sqlite_path),
        )
        rounds = {
            "packer": packer.one_round,
            "dispatcher": dispatcher.one_round,
            "restorer": Restorer(store=store, completer=completer).one_round,
            "expirer": Expirer(
                store=store,
                clock=clock,
                region=region,
                rest_seconds=max(0.25, min(60.0, day_seconds / 100)),
                evictor_bell=bells["evictor"],
            ).one_round,
            "evictor": evictor.one_round,
            "janitor": Janitor(
                store=store, staging=staging, clock=clock, on_settled=bells["evictor"].ring
            ).one_round,
            "compactor": Compactor(store=store, staging=staging, clock=clock, leftovers=leftovers).one_round,
            "leftovers": leftovers.one_round,
            "watcher": watcher.one_round,
            "sweeper": Sweeper(
                store=store, staging=staging, janitor_bell=bells["janitor"], is_spared=leftovers.holds
            ).one_round,
            "deliverer": Deliverer(
                store=store,
                notifier=self._notifier(),
                clock=clock,
                random=ordinary,
                policy=policies.delivery_policy(settings),
            ).one_round,
        }
        loops = [Loop(name, rounds[name], bells[name], plain_faults=PASSING_FAULTS) for name in LOOPS]
        for loop in loops:
            loop.setServiceParent(self)
        self._closing.append(dispatcher.stop)

        control = _Control(
            epoch=epoch,
            started_at=clock.seconds(),
            board=board,
            staging=staging,
            dispatcher=dispatcher,
            packer=packer,
            bells=bells,
            loops=loops,
            watcher=watcher,
            remarks=tape.remarks,
        )
        operator = OperatorInterface(
            store=store,
            control=control,
            clock=clock,
            rules=rules,
            pools=tuple(settings.pools),
            quotas=policies.default_quotas(settings),
            new_user=lambda name, at: _new_user(unguessable, name, at),
        )
        signatures = Workers(self._reactor, 2, "signatures")
        self._closing.append(signatures.stop)
        pace = pace_of(settings.server.min_rate_bytes, settings.server.idle_timeout_seconds)
        operations = S3Operations(
            store=store,
            staging=staging,
            clock=clock,
            random=unguessable,
            rules=rules,
            region=region,
            day_seconds=day_seconds,
            days_max=settings.recall.days_max,
            archive_bell=CalmBell(bells["packer"], clock, gap_seconds=S3_RING_SECONDS),
            recall_bell=CalmBell(bells["dispatcher"], clock, gap_seconds=S3_RING_SECONDS),
            janitor_bell=CalmBell(bells["janitor"], clock, gap_seconds=S3_RING_SECONDS),
            quotas=policies.default_quotas(settings),
            room_wanted=room_wanted,
            doubtful=leftovers.note,
            pace=pace,
        )
        ids = IdSource(ordinary)
        endpoint = Endpoint(
            operations=operations.registry(),
            authenticator=Authenticator(
                look_up=store.user_by_access_key,
                seconds=clock.seconds,
                region=region,
                accepts_version_2_urls=settings.server.sigv2_presigned,
            ),
            ids=ids,
            seconds=clock.seconds,
            in_thread=signatures.run,
            domains=settings.server.domains,
            requests_max=settings.server.max_connections,
        )
        site = S3Site(
            endpoint.resource(),
            reactor=self._reactor,
            ids=ids,
            idle_timeout_seconds=settings.server.idle_timeout_seconds,
            linger_seconds=S3_LINGER_SECONDS,
            connections_max=settings.server.max_connections,
            pace_bytes=pace.least_bytes,
        )
        socket = Path(settings.admin_socket)
        socket.unlink(missing_ok=True)
        admin = UNIXServerEndpoint(self._reactor, str(socket), mode=0o600)
        await self._listen(admin, Site(operator.private().resource()), f"operators at {socket}")
        await self._listen(
            TCP4ServerEndpoint(self._reactor, settings.operator.port, interface=settings.operator.address),
            Site(operator.public().resource()),
            "health and metrics",
        )
        await self._listen(self._s3_endpoint(), site, "S3")
        control.is_serving = True
        self._tell_service_manager("READY=1")
        for remark in tape.remarks:
            self.log.warn("{remark}", remark=remark)

    def _tell_service_manager(self, fact: str) -> None:
        try:
            tell(os.environ, fact)
        except OSError as error:
            self.log.warn("the service manager cannot be told {fact}: {error}", fact=fact, error=error)

    async def _state_directory(self) -> StateDirectory:
        """
        Take the state directory.

        A process that a killed appliance was just starting holds on to it for a moment, until its program runs.

        :raise StateDirectoryInUse: it is still held after ``STATE_WAIT_SECONDS``
        """
        deadline = self._reactor.seconds() + STATE_WAIT_SECONDS
        while True:
            try:
                return StateDirectory(Path(self._configuration.state_directory))
            except StateDirectoryInUse:
                if self._reactor.seconds() >= deadline:
                    raise
            await deferLater(self._reactor, STATE_WAIT_SECONDS / 10)

    def _s3_endpoint(self) -> IStreamServerEndpoint:
        server = self._configuration.server
        common = {"interface": server.address, "backlog": 512}
        if server.tls.certificate_file is None or server.tls.key_file is None:
            return TCP4ServerEndpoint(self._reactor, server.port, **common)
        pem = Path(server.tls.certificate_file).read_bytes() + b"\n" + Path(server.tls.key_file).read_bytes()
        certificate = ssl.PrivateCertificate.loadPEM(pem)
        return SSL4ServerEndpoint(self._reactor, server.port, certificate.options(), **common)

    async def _listen(self, endpoint: IStreamServerEndpoint, site: Site, what: str) -> None:
        port: IListeningPort = await endpoint.listen(site)
        self._closing.append(port.stopListening)
        address = port.getHost()
        where = f" at {address.host}:{address.port}" if isinstance(address, IPv4Address | IPv6Address) else ""
        self.log.info("serving {what}{where}", what=what, where=where)

    def _notifier(self) -> WebhookNotifier:
        notify = self._configuration.notify
        pool = HTTPConnectionPool(self._reactor, persistent=False)
        return WebhookNotifier(
            targets=[_target(webhook) for webhook in notify.webhooks],
            post=HTTPClient(Agent(self._reactor, pool=pool, connectTimeout=notify.timeout_seconds)).post,
            clock=self._reactor,
            timeout_seconds=notify.timeout_seconds,
            read_body=treq.content,
        )


LOOPS = (
    "packer",
    "dispatcher",
    "restorer",
    "expirer",
    "evictor",
    "janitor",
    "compactor",
    "leftovers",
    "watcher",
    "sweeper",
    "deliverer",
)


@implementer(IControl)
class _Control:
    """The running appliance, as an operator reaches it."""

    def __init__(
        self,
        *,
        epoch: int,
        started_at: float,
        board: ActivityBoard,
        staging: DiskStaging,
        dispatcher: Dispatcher,
        packer: Packer,
        bells: dict[str, ReactorBell],
        loops: Sequence[Loop],
        watcher: Watcher,
        remarks: Sequence[str],
    ) -> None:
        self.is_serving = False
        self._epoch = epoch
        self._started_at = started_at
        self._board = board
        self._staging = staging
        self._dispatcher = dispatcher
        self._packer = packer
        self._bells = bells
        self._loops = tuple(loops)
        self._watcher = watcher
        self._remarks = tuple(remarks)

    def health(self) -> Health:
        """See ``IControl.health``."""
        waiting = () if self._dispatcher.is_reconciled else ("the library is not reconciled yet: tapes wait",)
        if self._dispatcher.is_draining:
            waiting = (*waiting, "draining: drives take no new work until `coldstore resume`")
        failing = tuple(
            f"{loop.name} cannot do its work: {loop.trouble}" for loop in self._loops if loop.trouble
        )
        return Health(
            version=VERSION,
            epoch=self._epoch,
            started_at=self._started_at,
            is_serving=self.is_serving,
            is_library_reconciled=self._dispatcher.is_reconciled,
            problems=(*self._watcher.problems, *failing, *waiting, *self._remarks),
        )

    def activities(self) -> Sequence[DriveActivity]:
        """See ``IControl.activities``."""
        return self._board.entries()

    def usage(self) -> StagingUsage:
        """See ``IControl.usage``."""
        return self._staging.usage()

    def archive_now(self) -> None:
        """See ``IControl.archive_now``."""
        self._packer.hurry()
        self._bells["packer"].ring()

    def drives_changed(self) -> None:
        """See ``IControl.drives_changed``."""
        self._bells["dispatcher"].ring()

    def drain(self, is_draining: bool) -> None:
        """See ``IControl.drain``."""
        self._dispatcher.drain(is_draining)

    def look_at_library(self) -> "Deferred[None]":
        """See ``IControl.look_at_library``."""
        return Deferred.fromCoroutine(self._dispatcher.look_at_library())


async def _maybe(result: Any) -> None:
    if isinstance(result, Deferred) or hasattr(result, "__await__"):
        await result


def _free_bytes(path: str) -> int:
    """Return what the file system of a path has left for a process that is not root."""
    state = os.statvfs(Path(path).parent)
    return state.f_bavail * state.f_frsize


def _base36(number: int) -> str:
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    text = ""
    while True:
        number, digit = divmod(number, 36)
        text = digits[digit] + text
        if not number:
            return text


def _target(webhook: Webhook) -> WebhookTarget:
    secret = None if webhook.secret_file is None else Path(webhook.secret_file).read_bytes().strip()
    return WebhookTarget(name=webhook.name, url=webhook.url, secret=secret, events=webhook.events)


def _new_user(random: Random, name: str, at: float) -> User:
    """Make a user with keys of the shape that S3 tools expect: 20 upper-case letters and digits, and 40 of base64."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
    secret = letters + letters.lower() + "0123456789"
    return User(
        user_id=f"{random.getrandbits(256):064x}",
        name=name,
        access_key="CS" + "".join(random.choice(letters) for _ in range(18)),
        secret_key="".join(random.choice(secret) for _ in range(40)),
        created_at=at,
    )
