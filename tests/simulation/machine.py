"""What a simulated machine gives to one run of the appliance: see ``Adapters``."""

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from coldstore.appliance import policies
from coldstore.appliance.adapters import TapeSide
from coldstore.appliance.machine import base36
from coldstore.appliance.tenure import Tenure, later_run
from coldstore.config.schema import Configuration
from coldstore.disk.staging import DiskStaging
from coldstore.interfaces.metadata import IMetadataStore
from coldstore.interfaces.notify import DeliveryFailed, INotifier
from coldstore.interfaces.tenure import ITenure
from coldstore.model.events import OutboxMessage
from coldstore.model.hosts import Host
from coldstore.work.activity import ActivityBoard
from coldstore.work.bay import Bay, BayLimits
from coldstore.work.inventory import InventoryKeeper
from coldstore.work.sessions import SessionWriter
from tests.simulation.chance import Chance
from tests.simulation.database import Database
from tests.simulation.disk import Disk, SimulatedFileSystem
from tests.simulation.keyfile import KeptKeys, LifeDataKeyFile, LifeKeyFile
from tests.simulation.library import (
    Computer,
    Floor,
    LifeDrive,
    LifeLibrary,
    LifeLock,
    Limits,
    life_filesystem,
)
from tests.simulation.life import Life, LifeReactor, LifeThreads, tell

SAMPLE_SECONDS = 60.0


def limits(settings: Configuration) -> Limits:
    """The deadlines that a configuration gives to commands."""
    timeouts = settings.tape.timeouts
    return Limits(
        move_seconds=timeouts.move_seconds,
        format_seconds=timeouts.format_seconds,
        check_seconds=timeouts.check_seconds,
        mount_seconds=timeouts.mount_seconds,
        unmount_seconds=timeouts.unmount_seconds,
        stall_seconds=timeouts.transfer_stall_seconds,
    )


class Target:
    """Where messages go: takes them, or is away. ``taken`` are those it took, in order, repeated ones too."""

    def __init__(self) -> None:
        self.is_away = False
        self.taken: list[OutboxMessage] = []


@implementer(ITenure)
class LifeTenure:
    """What is asked before an act, by one process: it tells when such a question is on its way."""

    def __init__(self, tenure: ITenure, life: Life) -> None:
        self._tenure = tenure
        self._life = life

    def confirm(self) -> "Deferred[None]":
        """See ``ITenure``."""
        asked = self._tenure.confirm()
        self._life.on_asking()
        return asked


@implementer(INotifier)
class LifeNotifier:
    """Delivery as one process does it."""

    def __init__(self, target: Target, life: Life) -> None:
        self._target = target
        self._life = life

    def deliver(self, message: OutboxMessage) -> "Deferred[None]":
        """See ``INotifier``."""
        self._life.effect(f"deliver {message.event}")
        if self._target.is_away:
            return fail(DeliveryFailed("the target is away"))
        self._target.taken.append(message)
        return succeed(None)


class SimulatedMachine:
    """See ``Adapters``; one for each life, on what survives all of them."""

    def __init__(
        self,
        settings: Configuration,
        life: Life,
        *,
        chance: Chance,
        database: Database,
        disk: Disk,
        floor: Floor,
        target: Target,
        number: int,
        computer: Computer | None = None,
        keys: KeptKeys | None = None,
    ) -> None:
        """:param computer: where it runs; None: on the first machine"""
        life.computer = computer or floor.computers[0]
        self._settings = settings
        self._life = life
        self._database = database
        self._disk = disk
        self._floor = floor
        self._target = target
        self._keys = KeptKeys() if keys is None else keys
        self._latency = chance.stream("latency")
        self.clock: Any = LifeReactor(life)
        self.host: Host = life.computer.host
        self.ordinary = Random(f"{chance.seed}/life {number}/ordinary")
        self.unguessable = Random(f"{chance.seed}/life {number}/unguessable")

    def _seconds(self, mean: float) -> Callable[[], float]:
        uniform = self._latency.uniform
        return lambda: uniform(0.2 * mean, 1.8 * mean)

    def store(self) -> IMetadataStore:
        """See ``Adapters``."""
        return self._database.store(self._life, self._seconds(0.004))

    async def open(self, store: IMetadataStore) -> None:
        """See ``Adapters``: nobody else has it."""
        await store.open()

    async def demand_match(self, store: IMetadataStore) -> None:
        """See ``Adapters``: it always does."""

    def tenure(self, *, store: IMetadataStore, epoch: int) -> Tenure:
        """See ``Adapters``: an answer is on its way for a moment."""
        life, seconds = self._life, self._seconds(0.002)
        asked = later_run(store, epoch)

        def ask() -> "Deferred[str | None]":
            answer, told = asked(), Deferred[str | None]()

            def came(found: Any) -> None:
                life.reactor.later(life, seconds(), tell, (told, found), {})

            answer.addBoth(came)
            return told

        return Tenure(questions=(ask,), clock=self.clock, ticks=life.reactor.seconds)

    def key_file(self) -> LifeKeyFile:
        """See ``Adapters``."""
        return LifeKeyFile(self._keys, self._life)

    def data_key_file(self) -> LifeDataKeyFile:
        """See ``Adapters``."""
        return LifeDataKeyFile(self._keys, self._life)

    def staging(self, epoch: int) -> DiskStaging:
        """See ``Adapters``."""
        settings = self._settings
        staging = settings.staging
        return DiskStaging(
            reactor=self.clock,
            random=self.ordinary,
            run=base36(epoch),
            directory=Path(settings.staging_directory),
            capacity_bytes=staging.capacity_bytes,
            min_free_bytes=staging.min_free_bytes,
            shares=policies.disk_shares(settings),
            small_limit_bytes=staging.small_object_bytes,
            segment_bytes=staging.segment_bytes,
            hashing_threads=2,
            reading_threads=2,
            sample_seconds=SAMPLE_SECONDS,
            system=SimulatedFileSystem(self._disk, self._life),
            make_pool=self.workers,
        )

    def tape_side(
        self, *, store: IMetadataStore, tenure: ITenure, board: ActivityBoard, sessions: SessionWriter
    ) -> TapeSide:
        """See ``Adapters``."""
        settings, floor, life = self._settings, self._floor, self._life
        tenure = LifeTenure(tenure, life)
        timeouts, bounds = settings.tape.timeouts, limits(settings)
        library = LifeLibrary(floor, life, bounds, tenure)
        bays = {}
        for drive in floor.library.drives:
            number = drive.number
            bays[number] = Bay(
                index=number,
                lock=LifeLock(f"drive-{number}", floor, life),
                library=library,
                drive=LifeDrive(number, floor, life, tenure),
                filesystem=life_filesystem(floor, life, self._disk, number, bounds, tenure),
                store=store,
                clock=self.clock,
                random=self.ordinary,
                board=board,
                limits=BayLimits(
                    ready_seconds=timeouts.load_seconds, first_ready_seconds=timeouts.first_load_seconds
                ),
                before_unmount=sessions.before_unmount,
                after_unmount=sessions.after_unmount,
            )
        keeper = InventoryKeeper(
            library=library,
            store=store,
            clock=self.clock,
            capacity_of=lambda barcode: floor.tapes.medium(barcode).capacity_bytes,
            admitted_by=lambda _barcode: "",
        )
        return TapeSide(
            bays=bays,
            keeper=keeper,
            serials={number: f"SIM{number:05}" for number in bays},
            remarks=(),
            stop=lambda: None,
        )

    def ticks(self) -> float:
        """See ``Adapters``."""
        return self._life.reactor.seconds()

    def record_free_bytes(self) -> int:
        """See ``Adapters``."""
        return 1 << 40

    def dumps(self) -> None:
        """See ``Adapters``: nobody dumps a database in memory."""

    def notifier(self) -> LifeNotifier:
        """See ``Adapters``."""
        return LifeNotifier(self._target, self._life)

    def workers(self, count: int, _name: str) -> LifeThreads:
        """See ``Adapters``."""
        return LifeThreads(self._life, count, self._seconds(0.002))
