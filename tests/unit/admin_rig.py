"""The operator's interface in memory: twisted.web's own parser over an SQLite store, and an appliance that only notes orders."""

import json
from collections.abc import Sequence
from itertools import count
from random import Random
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any
from urllib.parse import urlencode

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.server import Site
from zope.interface import implementer

from coldstore.admin.client import understood
from coldstore.admin.endpoint import OperatorInterface
from coldstore.interfaces.control import Health, IControl, LifecycleStanding
from coldstore.interfaces.staging import StagingUsage
from coldstore.keys.keyfile import KeyFile
from coldstore.keys.keyring import Keyring
from coldstore.metadata.sqlite.store import SqliteStore
from coldstore.model.activity import DriveActivity
from coldstore.model.bundles import Member
from coldstore.model.cartridges import Cartridge, CartridgeState, Drive, DriveState
from coldstore.model.configurations import ConfigurationKind
from coldstore.model.due import LAST_UID, Position, Reason, Waiting
from coldstore.model.events import Severity
from coldstore.model.hosts import Host
from coldstore.model.lifecycle import Lifecycle, Rule, lifecycle_text
from coldstore.model.objects import (
    ObjectVersion,
    Piece,
    Restore,
    RestorePhase,
    StorageClass,
    Tier,
    VersionFacts,
)
from coldstore.model.quotas import Quotas
from coldstore.plan.classes import ClassRule
from coldstore.plan.dueranges import compiled
from coldstore.plan.quota import DefaultQuotas
from tests.unit.encryption_keys import MemoryKeyFile, data_keyring

NOW = 1_800_000_000.0
GIB = 1024**3
RULES = {
    StorageClass.STANDARD: ClassRule(pools=(), keep_on_disk=True, needs_restore=False),
    StorageClass.GLACIER: ClassRule(pools=("main", "vault"), keep_on_disk=False, needs_restore=True),
}
HOST = Host(name="here", machine_id="m1")
HEALTHY = Health(
    version="1.2.3",
    epoch=4,
    host=HOST.name,
    started_at=NOW - 60,
    is_serving=True,
    is_library_reconciled=True,
    problems=(),
    last_dump=None,
)


@implementer(IControl)
class NotingControl:
    """An appliance that notes what it is told."""

    def __init__(self) -> None:
        self.orders: list[str] = []
        self.state = HEALTHY
        self.at_work: list[DriveActivity] = []
        self.library_fault: Exception | None = None
        self.standing = LifecycleStanding(acted={}, behind_since=None)

    def health(self) -> Health:
        """See ``IControl``."""
        return self.state

    def reload(self) -> "Deferred[Sequence[str]]":
        """See ``IControl``."""
        self.orders.append("reload")
        return succeed(["tls.pem: ends in 2030"])

    def activities(self) -> Sequence[DriveActivity]:
        """See ``IControl``."""
        return self.at_work

    def usage(self) -> StagingUsage:
        """See ``IControl``."""
        return StagingUsage(capacity_bytes=8 * GIB, used_bytes=2 * GIB, reserved_bytes=GIB)

    def lifecycle(self) -> LifecycleStanding:
        """See ``IControl``."""
        return self.standing

    def archive_now(self) -> None:
        """See ``IControl``."""
        self.orders.append("archive")

    def drives_changed(self) -> None:
        """See ``IControl``."""
        self.orders.append("drives changed")

    def drain(self, is_draining: bool) -> None:
        """See ``IControl``."""
        self.orders.append(f"drain {is_draining}")

    def look_at_library(self) -> "Deferred[None]":
        """See ``IControl``."""
        self.orders.append("inventory")
        return succeed(None) if self.library_fault is None else fail(Failure(self.library_fault))


def cartridge(barcode: str, **changes: Any) -> Cartridge:
    """Return a cartridge that is in the library and was not admitted, unless told otherwise."""
    facts: dict[str, Any] = {
        "barcode": barcode,
        "state": CartridgeState.UNADMITTED,
        "pool": "",
        "volume_uuid": "",
        "home_slot": 3,
        "is_present": True,
        "capacity_bytes": 12 * GIB,
        "free_bytes": 12 * GIB,
        "written_bytes": 0,
        "loads": 0,
        "failures": 0,
        "needs_check": False,
        "format_nonce": "",
        "admitted_at": None,
        "admitted_by": "",
        "reason": "seen in the library",
        "changed_at": NOW,
        "changed_by": "coldstore",
    }
    return Cartridge(**(facts | changes))


class AdminRig:
    """
    One operator's interface.

    ``get`` and ``post`` have the signatures of ``Client``: the command can use the rig instead of a socket.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.store = SqliteStore(":memory:")
        self.control = NotingControl()
        self._case = SynchronousTestCase()
        self.done(self.store.open())
        self._users, self._keys = count(1), count(1)
        self.folder = mkdtemp()
        self.keyring = Keyring(
            store=self.store,
            file=KeyFile(f"{self.folder}/master.key"),
            seconds=self.clock.seconds,
            random_bytes=Random(1).randbytes,
            in_thread=maybeDeferred,
        )
        self.done(Deferred.fromCoroutine(self.keyring.open()))
        self.key_file = MemoryKeyFile()
        self.data_keys = data_keyring(self.store, self.key_file)
        self.interface = OperatorInterface(
            store=self.store,
            control=self.control,
            clock=self.clock,
            host=HOST.text,
            rules=RULES,
            pools=("main", "vault"),
            quotas=DefaultQuotas(user=Quotas(staging=GIB)),
            day_seconds=86_400.0,
            keyring=self.keyring,
            blocks_public=True,
            data_keys=self.data_keys,
            new_user_id=lambda: f"id-{next(self._users)}",
            new_key=self._new_key,
        )
        self._private = Site(self.interface.private().resource(), reactor=self.clock)
        self._public = Site(self.interface.public().resource(), reactor=self.clock)

    def _new_key(self) -> tuple[str, str]:
        number = next(self._keys)
        return f"KEY{number}", f"secret-{number}"

    def done(self, deferred: "Deferred[Any]") -> Any:
        """Return the result of a Deferred that has fired."""
        return self._case.successResultOf(deferred)

    def close(self) -> None:
        """Close the store."""
        self.done(self.store.close())
        rmtree(self.folder)

    # ── asking ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def ask(self, method: str, target: str, body: bytes = b"", *, public: bool = False) -> tuple[int, bytes]:
        """Send one request and return status and body of the answer."""
        transport = StringTransport()
        channel = (self._public if public else self._private).buildProtocol(None)
        channel.makeConnection(transport)
        head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        channel.dataReceived(head.encode() + body)
        answer_head, _, answer = transport.value().partition(b"\r\n\r\n")
        return int(answer_head.split()[1]), answer

    def json(self, method: str, target: str, document: object = None) -> tuple[int, Any]:
        """Send a request with a JSON body and return status and JSON of the answer."""
        body = b"" if document is None else json.dumps(document).encode()
        status, answer = self.ask(method, target, body)
        return status, json.loads(answer)

    def get(self, question: str, **arguments: str | Sequence[str]) -> object:
        """Ask as ``Client.get`` does."""
        target = f"{question}?{urlencode(arguments, doseq=True)}" if arguments else question
        return understood(*self.ask("GET", target), "the rig")

    def post(self, order: str, document: Any = None) -> object:
        """Order as ``Client.post`` does."""
        return understood(*self.ask("POST", order, json.dumps(document or {}).encode()), "the rig")

    # ── a state to ask about ────────────────────────────────────────────────────────────────────────────────────────

    def add_bucket(self, name: str) -> None:
        """Record a bucket."""
        self.done(
            self.store.create_bucket(
                name=name, owner_id="owner", region="us-east-1", created_at=NOW, default_class=None
            )
        )

    def add_object(self, bucket: str, key: str, *, storage_class: StorageClass = StorageClass.GLACIER) -> int:
        """Record an object of 1,000 bytes on disk; return its version's uid."""
        published: ObjectVersion = self.done(
            self.store.publish_version(
                VersionFacts(
                    bucket=bucket,
                    key=key.encode(),
                    version_id="null",
                    size_bytes=1000,
                    etag="e",
                    storage_class=storage_class,
                    headers=(),
                    user_metadata=(),
                    checksum=None,
                    crc64nvme=7,
                    part_sizes="",
                    created_at=NOW - 300,
                    owner_id="owner",
                ),
                layout_id=f"layout-of-{key}",
                pieces=[Piece(ordinal=1, address=f"address-of-{key}", length_bytes=1000, crc64nvme=7)],
                wants_tape=bool(RULES[storage_class].pools),
                condition=None,
                messages=[],
            )
        )
        return published.version_uid

    def freeze(self, bundle_id: str, version_uid: int) -> None:
        """Put a version into a bundle of its own, and freeze that."""
        store = self.store
        self.done(store.open_bundle(bundle_id=bundle_id, pools=("main", "vault"), created_at=NOW, epoch=1))
        member = Member(
            bundle_id=bundle_id,
            position=0,
            version_uid=version_uid,
            extent=0,
            extent_count=1,
            object_offset_bytes=0,
            length_bytes=1000,
            crc64nvme=7,
        )
        self.done(store.claim_members(bundle_id, [member], last_extents={version_uid}))
        self.done(store.fix_offsets(bundle_id, {0: 512}))
        self.done(store.freeze_bundle(bundle_id, member_count=1, size_bytes=5000, content_bytes=1000))

    def verify(self, bundle_id: str, pool: str, barcode: str) -> None:
        """Bring one copy of a frozen bundle onto a cartridge, verified."""
        store = self.store
        self.done(store.start_copy(bundle_id=bundle_id, pool=pool, barcode=barcode, epoch=1))
        self.done(
            store.copy_synced(
                bundle_id=bundle_id,
                pool=pool,
                epoch=1,
                partition="b",
                start_block=9,
                size_bytes=5000,
                sha256="aa",
                at=NOW,
            )
        )
        self.done(store.copy_verified(bundle_id=bundle_id, pool=pool, epoch=1, at=NOW))

    def add_alert(self, kind: str, subject: str, severity: Severity, sentence: str) -> int:
        """Raise an alert; return its number."""
        raised = self.done(
            self.store.raise_alert(kind=kind, subject=subject, severity=severity, sentence=sentence, at=NOW)
        )
        return int(raised.alert_id)

    def ask_restore(self, version_uid: int) -> None:
        """Begin a restore."""
        version: ObjectVersion = self.done(self.store.version(version_uid))
        restore = Restore(
            phase=RestorePhase.ONGOING, tier=Tier.STANDARD, days=2, requested_at=NOW, requested_by="alice"
        )
        self.done(
            self.store.change_restore(version_uid, revision=version.revision, restore=restore, messages=[])
        )

    def add_cartridges(self, *cartridges: Cartridge) -> None:
        """Record cartridges."""
        self.done(self.store.add_cartridges(list(cartridges)))

    def add_drive(self, index: int) -> None:
        """Record a drive that is up."""
        self.done(
            self.store.record_drive(
                Drive(
                    index=index,
                    serial=f"SERIAL{index}",
                    state=DriveState.UP,
                    reason="new",
                    failures=0,
                    changed_at=NOW,
                    changed_by="coldstore",
                ),
                audit="new drive",
            )
        )

    def govern(self, name: str, *rules: Rule) -> int:
        """Create a bucket with lifecycle rules, whose ranges are begun; return its uid."""
        self.add_bucket(name)
        text = lifecycle_text(Lifecycle(rules=rules))
        bucket = self.done(
            self.store.set_bucket_configuration(name=name, kind=ConfigurationKind.LIFECYCLE, document=text)
        )
        self.ranges = compiled(text).ranges
        self.done(
            self.store.change_lifecycle_ranges(
                bucket.bucket_uid,
                begun={each.range_id: each.subject for each in self.ranges},
                ended=[],
                counts_newer=False,
            )
        )
        return int(bucket.bucket_uid)

    def go_through(self, bucket_uid: int, at: float) -> None:
        """Have its ranges be gone through up to a time."""
        for each in self.ranges:
            self.done(
                self.store.advance_lifecycle_range(bucket_uid, each.range_id, through=Position(at, LAST_UID))
            )

    def wait_for_tape(self, bucket_uid: int, count: int) -> None:
        """Have so many versions wait for their tape copies."""
        waiting = [Waiting(bucket_uid, number, NOW + 60, Reason.ARCHIVE) for number in range(count)]
        self.done(self.store.keep_reviews(done=[], waiting=waiting))
