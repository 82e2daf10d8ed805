"""What the appliance needs of the world around it, named in one place: a real machine gives it, or a simulated one."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Protocol

from twisted.internet.interfaces import IReactorTime

from coldstore.appliance.tenure import Tenure
from coldstore.interfaces.dumps import IDumps
from coldstore.interfaces.metadata import IMetadataStore
from coldstore.interfaces.notify import INotifier
from coldstore.interfaces.reservation import IReservation
from coldstore.interfaces.staging import IStaging
from coldstore.interfaces.tenure import ITenure
from coldstore.keys.datafile import IsDataKeyFile
from coldstore.keys.keyfile import IsKeyFile
from coldstore.model.hosts import Host
from coldstore.util.workers import Pool
from coldstore.work.activity import ActivityBoard
from coldstore.work.bay import Bay
from coldstore.work.inventory import InventoryKeeper
from coldstore.work.sessions import SessionWriter


@dataclass(frozen=True, slots=True, kw_only=True)
class TapeSide:
    """What the dispatcher needs of the tape side. ``stop`` ends its threads; ``remarks`` are sentences for an operator;
    ``changer`` keeps other machines from moving cartridges (None: nothing does)."""

    bays: dict[int, Bay]
    keeper: InventoryKeeper
    serials: dict[int, str]
    remarks: tuple[str, ...]
    stop: Callable[[], None]
    changer: "IReservation | None" = None


class Adapters(Protocol):
    """
    Everything outside the appliance, for one run of it. Makes each part once, when it is asked for, in the order of this list.

    :ivar clock: time of day, and timers
    :ivar ordinary: chance for names that need not be secret
    :ivar unguessable: chance for secrets
    :ivar host: the machine
    """

    clock: IReactorTime
    ordinary: Random
    unguessable: Random
    host: Host

    def store(self) -> IMetadataStore:
        """The metadata store, not opened yet."""

    async def open(self, store: IMetadataStore) -> None:
        """
        Open it, once no other appliance has it: what stands by waits for that.

        :raise AnotherAppliance: one has it, and this does not stand by
        :raise MetadataUnavailable, SchemaTooNew, SchemaTooOld: it cannot be used
        """

    async def demand_match(self, store: IMetadataStore) -> None:
        """
        See that this record belongs to what the configuration names.

        :raise OSError, VirtualCartridges: it does not
        """

    def tenure(self, *, store: IMetadataStore, epoch: int) -> Tenure:
        """The standing of a run that was begun in the store."""

    def key_file(self) -> IsKeyFile:
        """Where the master key of access keys is kept."""

    def data_key_file(self) -> IsDataKeyFile:
        """Where the keys of data are kept."""

    def staging(self, epoch: int) -> IStaging:
        """The staging disk, not started yet."""

    def tape_side(
        self, *, store: IMetadataStore, tenure: ITenure, board: ActivityBoard, sessions: SessionWriter
    ) -> TapeSide:
        """
        The library and its drives; nothing is moved.

        :raise OSError: a configured device is not there
        """

    def ticks(self) -> float:
        """Seconds of a clock that nobody sets, and that goes on while the machine sleeps."""

    def record_free_bytes(self) -> int | None:
        """What the file system of the record has left, in bytes; None when it is on a server, whose disks are looked after there."""

    def dumps(self) -> "IDumps | None":
        """Dumps of the metadata; None where none are made."""

    def notifier(self) -> INotifier:
        """Delivery to the outside."""

    def workers(self, count: int, name: str) -> Pool:
        """At most ``count`` threads."""
