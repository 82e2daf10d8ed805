"""
The appliance without the world around it: loops, S3 and the operator's interface, wired to whatever ``IAdapters`` gives.

Starting is recovering: open the metadata under a new epoch, recover the disk, undo or take up what an earlier run left, then be ready to
serve; the library is reconciled beside that, by the dispatcher's first round.
"""

from collections.abc import Callable
from random import Random
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from coldstore.admin.endpoint import OperatorInterface
from coldstore.appliance import policies
from coldstore.appliance.adapters import Adapters
from coldstore.appliance.control import Control
from coldstore.appliance.tenure import Tenure
from coldstore.config.schema import Configuration
from coldstore.interfaces.metadata import Epoch, IMetadataStore
from coldstore.interfaces.staging import DiskFault
from coldstore.keys.dataring import DataKeyring
from coldstore.keys.keyring import Keyring
from coldstore.model.errors import MetadataUnavailable, StagingFull
from coldstore.model.hosts import Host
from coldstore.plan.lock import kept_until
from coldstore.plan.takeover import seconds_to_wait
from coldstore.s3.auth import Authenticator
from coldstore.s3.ids import IdSource
from coldstore.s3.keyuse import KeyUses
from coldstore.s3.operations import S3Operations
from coldstore.s3.pace import pace_of
from coldstore.s3.resource import Endpoint
from coldstore.s3.site import S3Site
from coldstore.util.loops import Loop
from coldstore.work.activity import ActivityBoard
from coldstore.work.bells import CalmBell, ReactorBell
from coldstore.work.compactor import Compactor
from coldstore.work.completing import Completer
from coldstore.work.contents import Contents
from coldstore.work.deliverer import Deliverer
from coldstore.work.dispatcher import Dispatcher
from coldstore.work.drives import record_drives
from coldstore.work.dumper import Dumper
from coldstore.work.evictor import Evictor
from coldstore.work.expirer import Expirer
from coldstore.work.janitor import Janitor
from coldstore.work.leftovers import Leftovers
from coldstore.work.lifecycle import Lifecycle
from coldstore.work.lockclock import LockClock
from coldstore.work.packer import Packer
from coldstore.work.quotawatch import QuotaWatch
from coldstore.work.reading import RecallSession
from coldstore.work.recovery import Recovery
from coldstore.work.renewing import Renewals
from coldstore.work.restorer import Restorer
from coldstore.work.rewrapper import Rewrapper
from coldstore.work.sessions import SessionWriter
from coldstore.work.sweeper import Sweeper
from coldstore.work.watcher import Watcher
from coldstore.work.writing import ArchiveSession

PASSING_FAULTS = (MetadataUnavailable, DiskFault, StagingFull)
"""Reasons for a loop to begin its round again later that an operator understands without a traceback."""
EVICTION_LOOK_SECONDS = 60.0
S3_LINGER_SECONDS = 5.0
SIGNATURE_THREADS = 2
CIPHER_THREADS = 2
S3_RING_SECONDS = 0.25
"""How often requests begin a round of a loop at most: a round looks at everything that waits."""
LOOPS = (
    "packer",
    "dispatcher",
    "restorer",
    "expirer",
    "lifecycle",
    "evictor",
    "janitor",
    "compactor",
    "leftovers",
    "watcher",
    "quotas",
    "sweeper",
    "lockclock",
    "deliverer",
    "dumper",
    "rewrapper",
)


class Core(MultiService):
    """
    One ColdStore; its loops are its services.

    :ivar site: what S3 clients are to be given once ``begin`` has fired
    :ivar operator: what operators are to be given then
    :ivar control: what it tells of itself
    :ivar store: its metadata, ``epoch`` the run that was begun in them, and ``tenure`` its standing, as soon as there is one
    """

    log = Logger()

    site: S3Site
    operator: OperatorInterface
    control: Control
    store: IMetadataStore
    epoch: Epoch
    tenure: Tenure

    def __init__(self, settings: Configuration, adapters: Adapters) -> None:
        super().__init__()
        self._settings = settings
        self._adapters = adapters
        self._closing: list[Callable[[], Any]] = []

    async def end(self) -> None:
        """Let go of what ``begin`` took, however far it came, after the loops were stopped; mounted cartridges stay mounted."""
        while self._closing:
            await _maybe(self._closing.pop()())

    async def _wait_for_predecessor(self, before: Host | None) -> None:
        """Touch nothing before it is certain that another machine, which had this appliance, begins nothing more."""
        seconds = seconds_to_wait(before, self._adapters.host)
        if before is not None and seconds:
            self.log.warn(
                "{before} had this appliance before: what it may still be doing with drives is minded",
                before=before.name,
            )
            await deferLater(self._adapters.clock, seconds)

    async def begin(self, on_begun: Callable[[], None] = lambda: None) -> None:
        """
        Recover, then begin to work; nobody is served yet.

        :param on_begun: is called once there is a run, before anything is recovered

        :raise AnotherAppliance: another appliance has the record
        :raise MetadataUnavailable, SchemaTooNew, SchemaTooOld, RecordElsewhere: the record cannot be used
        :raise KeyFileFault: the master key of access keys is not to be had, or the file of the keys of data cannot be used
        :raise DiskFault: the staging disk cannot be used
        :raise OSError, VirtualCartridges: what the configuration names is not there, or is not what the record knows
        """
        settings, adapters = self._settings, self._adapters
        clock, ordinary, unguessable = adapters.clock, adapters.ordinary, adapters.unguessable

        store = adapters.store()
        await adapters.open(store)
        self._closing.append(store.close)
        await adapters.demand_match(store)
        self.epoch = await store.take_epoch(at=clock.seconds(), host=adapters.host.text)
        self.store = store
        epoch = self.epoch.number
        self.log.info(
            "epoch {epoch} of appliance {id} on {host}",
            epoch=epoch,
            id=store.appliance_id,
            host=adapters.host.name,
        )
        self.tenure = adapters.tenure(store=store, epoch=epoch)
        on_begun()
        await self._wait_for_predecessor(Host.of_text(self.epoch.host_before))

        signatures = adapters.workers(SIGNATURE_THREADS, "signatures")
        self._closing.append(signatures.stop)
        keyring = Keyring(
            store=store,
            file=adapters.key_file(),
            seconds=clock.seconds,
            random_bytes=unguessable.randbytes,
            in_thread=signatures.run,
        )
        await keyring.open()
        bells = {name: ReactorBell(clock) for name in LOOPS}
        data_keys = DataKeyring(
            store=store,
            file=adapters.data_key_file(),
            seconds=clock.seconds,
            random_bytes=unguessable.randbytes,
            in_thread=signatures.run,
            on_changed=bells["rewrapper"].ring,
        )
        await data_keys.open()

        staging = adapters.staging(epoch)
        await staging.start()
        self._closing.append(staging.stop)
        contents = Contents(store=store, staging=staging)
        self._closing.append(contents.close)

        board = ActivityBoard()
        tape = adapters.tape_side(
            store=store,
            tenure=self.tenure,
            board=board,
            sessions=SessionWriter(store=store, clock=clock, random=ordinary),
        )
        self._closing.append(tape.stop)
        await record_drives(store, clock, tape.serials)

        rules = policies.class_rules(settings)
        region, day_seconds = settings.server.region, settings.time.day_seconds
        leftovers = Leftovers(
            store=store, clock=clock, bell=bells["leftovers"], janitor_bell=bells["janitor"]
        )
        completer = Completer(
            store=store,
            clock=clock,
            region=region,
            day_seconds=day_seconds,
            messages_bell=bells["deliverer"],
        )
        evictor = Evictor(
            store=store,
            staging=staging,
            clock=clock,
            rules=rules,
            policy=policies.evict_policy(settings),
            rest_seconds=_eviction_rest(settings.cache.linger_seconds),
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
            messages_bell=bells["deliverer"],
            archive_session=archive_session,
            recall_session=recall_session,
            renewals=renewals,
            contents=contents,
            make_room=make_room,
            on_idle=bells["packer"].ring,
            host=adapters.host,
            changer=tape.changer,
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
            record_free_bytes=adapters.record_free_bytes,
        )
        lifecycle = Lifecycle(
            store=store,
            clock=clock,
            classes=rules,
            policy=policies.lifecycle_policy(settings),
            region=region,
            events=policies.lifecycle_events(settings),
            new_version_id=lambda: f"{unguessable.getrandbits(128):032x}",
            kept_until=lambda version, now: kept_until(version.lock, now),
            packer_bell=bells["packer"],
            evictor_bell=bells["evictor"],
            janitor_bell=bells["janitor"],
            messages_bell=bells["deliverer"],
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
                messages_bell=bells["deliverer"],
            ).one_round,
            "lifecycle": lifecycle.one_round,
            "evictor": evictor.one_round,
            "janitor": Janitor(
                store=store,
                staging=staging,
                tenure=self.tenure,
                clock=clock,
                on_settled=bells["evictor"].ring,
            ).one_round,
            "compactor": Compactor(store=store, staging=staging, clock=clock, leftovers=leftovers).one_round,
            "leftovers": leftovers.one_round,
            "watcher": watcher.one_round,
            "quotas": QuotaWatch(
                store=store, clock=clock, defaults=policies.default_quotas(settings)
            ).one_round,
            "sweeper": Sweeper(
                store=store, staging=staging, janitor_bell=bells["janitor"], is_spared=leftovers.holds
            ).one_round,
            "lockclock": LockClock(store=store, clock=clock, ticks=adapters.ticks).one_round,
            "deliverer": Deliverer(
                store=store,
                notifier=adapters.notifier(),
                clock=clock,
                random=ordinary,
                policy=policies.delivery_policy(settings),
            ).one_round,
            "rewrapper": Rewrapper(store=store, clock=clock, data_keys=data_keys).one_round,
        }
        dumper = None
        dumps = adapters.dumps()
        if dumps is not None:
            dumper = Dumper(store=store, dumps=dumps, clock=clock, policy=policies.dump_policy(settings))
            rounds["dumper"] = dumper.one_round
        loops = [
            Loop(name, rounds[name], bells[name], plain_faults=PASSING_FAULTS)
            for name in LOOPS
            if name in rounds
        ]
        for loop in loops:
            loop.setServiceParent(self)
        self._closing.append(dispatcher.stop)

        control = Control(
            epoch=epoch,
            host=adapters.host.name,
            started_at=clock.seconds(),
            board=board,
            staging=staging,
            dispatcher=dispatcher,
            packer=packer,
            bells=bells,
            loops=loops,
            watcher=watcher,
            remarks=tape.remarks,
            dumper=dumper,
            lifecycle=lifecycle,
        )
        operator = OperatorInterface(
            store=store,
            control=control,
            clock=clock,
            host=adapters.host.text,
            rules=rules,
            pools=tuple(settings.pools),
            quotas=policies.default_quotas(settings),
            day_seconds=day_seconds,
            keyring=keyring,
            blocks_public=settings.server.public_access_block,
            data_keys=data_keys,
            new_user_id=lambda: f"{unguessable.getrandbits(256):064x}",
            new_key=lambda: _new_key(unguessable),
        )
        ciphers = adapters.workers(CIPHER_THREADS, "ciphers")
        self._closing.append(ciphers.stop)
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
            messages_bell=CalmBell(bells["deliverer"], clock, gap_seconds=S3_RING_SECONDS),
            in_thread=ciphers.run,
            data_keys=data_keys,
            encrypts_all=settings.encryption.default != "none",
            sse_c_over_http=settings.server.sse_c_over_http,
            blocks_public=settings.server.public_access_block,
            quotas=policies.default_quotas(settings),
            room_wanted=room_wanted,
            doubtful=leftovers.note,
            pace=pace,
        )
        ids = IdSource(ordinary)
        endpoint = Endpoint(
            operations=operations.registry(),
            authenticator=Authenticator(
                look_up=keyring.look_up,
                seconds=clock.seconds,
                region=region,
                accepts_version_2_urls=settings.server.sigv2_presigned,
                accepts_version_2_headers=settings.server.sigv2_headers,
            ),
            ids=ids,
            seconds=clock.seconds,
            in_thread=signatures.run,
            note_key_use=KeyUses(store, clock).note,
            told_to_page=operations.told_to_page,
            domains=settings.server.domains,
            requests_max=settings.server.max_connections,
        )
        site = S3Site(
            endpoint.resource(),
            reactor=clock,
            ids=ids,
            idle_timeout_seconds=settings.server.idle_timeout_seconds,
            linger_seconds=S3_LINGER_SECONDS,
            connections_max=settings.server.max_connections,
            pace_bytes=pace.least_bytes,
        )
        self.site, self.operator, self.control = site, operator, control


def _new_key(random: Random) -> tuple[str, str]:
    """Make keys of the shape that S3 tools expect: 20 upper-case letters and digits, and 40 of base64."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
    secret = letters + letters.lower() + "0123456789"
    return (
        "CS" + "".join(random.choice(letters) for _ in range(18)),
        "".join(random.choice(secret) for _ in range(40)),
    )


def _eviction_rest(linger_seconds: float) -> float:
    """How long the evictor rests: what may go at once rings its bell when it comes, what lingers becomes free by time alone."""
    return min(EVICTION_LOOK_SECONDS, max(0.5, linger_seconds)) if linger_seconds else EVICTION_LOOK_SECONDS


async def _maybe(result: Any) -> None:
    if isinstance(result, Deferred) or hasattr(result, "__await__"):
        await result
