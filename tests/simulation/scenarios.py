"""
What is cut short at every effect: small quiet worlds, brought to where something begins, and what is done there then.

Only one thing goes on in such a world, and nothing fails in it; times are a twentieth of a real library's, so that a story is short.
"""

from base64 import b64encode
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from hashlib import md5
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from coldstore.interfaces.metadata import BATCH_MAX
from tests.endtoend.ledger import Content, Ledger
from tests.simulation.chance import HOUR, NO_FAULTS
from tests.simulation.clients import Client
from tests.simulation.disk import PAGE
from tests.simulation.invariants import Judge
from tests.simulation.times import Times
from tests.simulation.trial_run import Reader
from tests.simulation.world import Shape, World

MINUTE_HOURS, LOOK_HOURS = 1 / 60, 1 / 240
SEED = 1
GOVERNED = 12
"""Objects that each lifecycle rule is about."""
SMALL, LARGE = 3000, 70_000
"""Sizes of pieces that share a segment, and of those that have a file of their own."""
SETTINGS = """
archive:
  bundle_size: 512KiB
  trigger: {size: 1MiB, objects: 120, age: 10m, idle_age: 2m}
  session: 6MiB
  sync: 1MiB
  reserve: 512KiB
mount:
  idle_unload: 30s
recall:
  tiers: {bulk: {hold: 30s}}
"""
KEPT, COLD = "STANDARD", "GLACIER"
_Request = Coroutine[Deferred[Any], Any, None]


class BriefTimes(Times):
    """A library that is twenty times as quick."""

    def _about(self, seconds: float) -> float:
        return super()._about(seconds) / 20

    def load(self, *, is_first: bool) -> float:
        """See ``Times``."""
        return super().load(is_first=is_first) / (20 if is_first else 1)

    def transfer(self, size_bytes: int) -> float:
        """See ``Times``."""
        return super().transfer(size_bytes) / 20


class Stage:
    """A small quiet world with one client who does what he is told, and words for bringing it somewhere."""

    def __init__(self, settings: str = "") -> None:
        shape = Shape(drives=2, cartridges=4, slots=5, clients=1, settings=SETTINGS + settings)
        self.world = World(SEED, rates=NO_FAULTS, shape=shape)
        self.world.floor.times = BriefTimes(Random(SEED), Random(SEED))
        self.world.keeps_story = True
        # The account does not count the file in which it is noted.
        self.judge = Judge(self.world, account_slack_bytes=PAGE)
        self.client: Client = self.world.clients[0]
        self.client.is_over = True
        self._seeds = 0
        self._asking = 0
        self.world.begin()
        assert self.until(lambda: self.world.operator.is_ready)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Ask the record."""
        return self.world.database.connection.execute(query).fetchall()

    def count(self, query: str, *values: object) -> int:
        """Ask the record for a number; ``query`` begins behind SELECT count(*)."""
        ((count,),) = self.world.database.connection.execute(f"SELECT count(*) {query}", values).fetchall()
        return int(count)

    # ── what the client does ────────────────────────────────────────────────────────────────────────────────────────

    def content(self, size_bytes: int, storage_class: str) -> Content:
        """Content that there has not been before."""
        self._seeds += 1
        return Content(seed=self._seeds, size_bytes=size_bytes, storage_class=storage_class)

    def ask(self, *requests: _Request) -> None:
        """Have the client make requests, one after the other; he gives up what is not answered."""

        async def ask() -> None:
            for request in requests:
                await request

        def asked(_: None) -> None:
            self._asking -= 1

        self._asking += 1
        Deferred.fromCoroutine(ask()).addErrback(self.complain).addBoth(asked)

    @property
    def is_answered(self) -> bool:
        """Whether the client waits for nothing."""
        return not self._asking

    def put(self, key: str, size_bytes: int = SMALL, storage_class: str = KEPT) -> _Request:
        """A PUT of new content, to be asked for."""
        return self.client.put(key, self.content(size_bytes, storage_class))

    def has(self, *requests: _Request) -> None:
        """Have it all answered before anything else."""
        self.ask(*requests)
        assert self.until(lambda: self.is_answered)

    def complain(self, failure: Failure) -> None:
        """Something went wrong in the story itself."""
        self.client.complain(failure.getTraceback())

    # ── time ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def until(self, condition: Callable[[], bool], *, hours: float = 12.0) -> bool:
        """Let time go by until a condition holds, and return whether it does; looked at after everything that happens."""
        reactor = self.world.reactor
        end = reactor.seconds() + hours * HOUR
        while not condition():
            if not reactor.step(end):
                return condition()
        return True

    def rest(self, minutes: float = 1.0) -> None:
        """Let time go by."""
        self.world.pass_hours(minutes * MINUTE_HOURS)

    def settles(self, condition: Callable[[], bool], *, hours: float = 12.0) -> bool:
        """Let time go by until a condition holds, and return whether it does; looked at a few times a minute."""
        end = self.world.reactor.seconds() + hours * HOUR
        while not condition():
            if self.world.reactor.seconds() >= end:
                return False
            self.world.pass_hours(LOOK_HOURS)
        return True

    # ── where things stand ──────────────────────────────────────────────────────────────────────────────────────────

    def is_serving(self) -> bool:
        """Whether the appliance answers clients."""
        return self.world.run is not None and self.world.run.is_serving

    def is_tidy(self) -> bool:
        """Whether nothing waits to be freed on the disk."""
        waiting = ("discards", "versions WHERE disposal = 'due'", "layouts WHERE state = 'doomed'")
        return not any(self.count(f"FROM {what}") for what in waiting)

    def is_at_rest(self) -> bool:
        """Whether there is nothing to do, and every drive is empty."""
        return not self.judge.unfinished() and self.is_tidy() and _has_no_tape(self)

    def archives(self) -> None:
        """Have everything go to tape, the cold leave the disk, and the tapes leave the drives."""
        assert self.settles(self.is_at_rest), self.judge.unfinished()

    def recovers(self) -> bool:
        """
        Let the next life begin, have the client read everything at once, and let all work be done; return whether that life has lived to
        see it.
        """
        dead = len(self.world.graves)

        def is_over() -> bool:
            return len(self.world.graves) > dead

        self.until(lambda: self.is_serving() or is_over())
        self.ask(*(self._read(key) for key in self.client.ledger.names()))
        self.until(lambda: self.is_answered or is_over())
        self.settles(lambda: is_over() or not self.judge.unfinished())
        return self.is_serving() and not is_over()

    def verdict(self) -> list[str]:
        """
        After a recovery: see that everything that was promised is there, and that nothing is left over; return what is wrong.
        """
        found = [f"in the end {what}" for what in self.judge.unfinished()]
        reader = Reader(self.client, rest_seconds=15.0)
        reader.begin()
        if not self.settles(lambda: reader.is_done):
            found.append(f"not to be had: {reader.missing()}")
        self.rest()
        # What is nobody's is freed after a minute of grace, one of quiet, and one of rest.
        self.settles(lambda: not self.judge.leaks(), hours=10 * MINUTE_HOURS)
        return [*found, *self.judge.complaints(), *self.world.complaints, *self.judge.leaks()]

    async def _read(self, key: str) -> None:
        await self.client.read(key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """
    Something that the appliance does.

    :ivar settings: YAML of sections that are others than in ``SETTINGS``
    :ivar prepare: brings a world to where it begins
    :ivar act: has it begin
    :ivar is_done: whether it is complete
    :ivar effects: beginnings of effects that it must have
    :ivar least: how many effects it has, at least
    """

    settings: str = ""
    prepare: Callable[[Stage], Any]
    act: Callable[[Stage], Any]
    is_done: Callable[[Stage], bool]
    effects: tuple[str, ...]
    least: int

    def stage(self) -> Stage:
        """A world in which it is about to begin."""
        stage = Stage(self.settings)
        self.prepare(stage)
        return stage


def _is_answered(stage: Stage) -> bool:
    return stage.is_answered


def _nothing(_stage: Stage) -> None:
    pass


def _rests(stage: Stage) -> None:
    stage.rest(2)


# ── clients write ───────────────────────────────────────────────────────────────────────────────────────────────────

PUT_SMALL = Scenario(
    prepare=_rests,
    act=lambda stage: stage.ask(stage.put("a"), stage.put("b", storage_class=COLD)),
    is_done=_is_answered,
    effects=("create /state/staging/containers/s-", "sync folder", "write", "sync", "commit", "answer"),
    least=14,
)
PUT_LARGE = Scenario(
    prepare=_rests,
    act=lambda stage: stage.ask(stage.put("a", LARGE)),
    is_done=_is_answered,
    effects=(
        "create /state/staging/incoming/",
        "write",
        "sync",
        "rename",
        "sync folder /state/staging/files/",
        "commit",
        "answer",
    ),
    least=8,
)
MULTIPART = Scenario(
    prepare=_rests,
    act=lambda stage: stage.ask(
        stage.client.multipart("a", stage.content(LARGE, KEPT), spare=stage.content(LARGE, KEPT))
    ),
    is_done=lambda stage: stage.is_answered and stage.is_tidy() and _has_no_leftovers(stage),
    effects=("create", "rename", "commit", "answer", "unlink /state/staging/files/"),
    least=25,
)


def _has_no_leftovers(stage: Stage) -> bool:
    return not stage.count("FROM layouts WHERE leftovers_after IS NOT NULL OR state = 'doomed'")


ABORT = Scenario(
    prepare=_rests,
    act=lambda stage: stage.ask(stage.client.abandon("a", stage.content(LARGE, KEPT))),
    is_done=lambda stage: stage.is_answered and stage.is_tidy() and _has_no_leftovers(stage),
    effects=("create", "rename", "commit", "answer", "unlink /state/staging/files/"),
    least=16,
)


def _overwritten(stage: Stage) -> None:
    stage.has(stage.put("a"), stage.put("b", LARGE), stage.put("c"))
    stage.rest()


OVERWRITE = Scenario(
    prepare=_overwritten,
    act=lambda stage: stage.ask(stage.put("a", storage_class=COLD), stage.put("b", LARGE)),
    is_done=lambda stage: stage.is_answered and stage.is_tidy(),
    effects=("write", "rename", "commit", "answer", "unlink /state/staging/files/"),
    least=23,
)
DELETE = Scenario(
    prepare=_overwritten,
    act=lambda stage: stage.ask(stage.client.delete("a"), stage.client.delete("b")),
    is_done=lambda stage: stage.is_answered and stage.is_tidy(),
    effects=("commit", "answer", "unlink /state/staging/files/"),
    least=12,
)

# ── tapes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _put(stage: Stage) -> None:
    stage.has(stage.put("a", storage_class=COLD), stage.put("b", LARGE, COLD), stage.put("c"))


def _has_no_tape(stage: Stage) -> bool:
    return all(drive.barcode is None for drive in stage.world.floor.library.drives)


def _in_state(stage: Stage, state: str) -> bool:
    return stage.count(f"FROM copies WHERE state = '{state}'") > 0


def _synced(stage: Stage) -> None:
    """One copy is verified, and the other one is to be."""
    _put(stage)
    assert stage.until(lambda: _in_state(stage, "verified") and _in_state(stage, "synced"))


def _archived(stage: Stage) -> None:
    _put(stage)
    assert stage.until(lambda: stage.count("FROM bundles WHERE state = 'archived'") > 0)


ARCHIVE = Scenario(
    prepare=_put,
    act=_nothing,
    is_done=lambda stage: stage.count("FROM copies WHERE state IN ('synced', 'verified')") == 2,
    effects=("moving", "filesystem 0 format", "filesystem 1 mount", "mover 0 write", "volume 1 sync"),
    least=50,
)
VERIFY = Scenario(
    prepare=_synced,
    act=_nothing,
    is_done=lambda stage: stage.count("FROM bundles WHERE state = 'archived'") > 0,
    effects=("mover 0 verify", "commit"),
    least=4,
)
EVICT = Scenario(
    prepare=_archived,
    act=_nothing,
    is_done=Stage.is_at_rest,
    effects=("commit", "unlink /state/staging/files/", "mover 0 put_file", "volume 0 unmount", "moving"),
    least=22,
)


def _writing(stage: Stage) -> None:
    """One copy is verified, and the other one is being written."""
    _put(stage)
    assert stage.until(lambda: _in_state(stage, "verified") and _in_state(stage, "writing"))


OUTDATE = Scenario(
    # What is being written to tape is deleted and overwritten.
    prepare=_writing,
    act=lambda stage: stage.ask(
        stage.client.delete("a"), stage.client.delete("b"), stage.put("c", storage_class=COLD)
    ),
    is_done=lambda stage: stage.is_tidy() and stage.count("FROM bundles WHERE is_settled = 1") > 0,
    effects=("commit", "answer", "mover 0 verify", "unlink /state/staging/files/"),
    least=25,
)


def _many(stage: Stage) -> None:
    """More than one step of the record takes."""
    stage.has(*(stage.put(f"{number:02}", 10, COLD) for number in range(BATCH_MAX + 3)))


def _filling(stage: Stage) -> None:
    _many(stage)
    assert stage.until(lambda: stage.count("FROM bundles") > 0)


def _unsettled(stage: Stage) -> None:
    _many(stage)
    assert stage.until(lambda: stage.count("FROM bundles WHERE state = 'archived'") > 0)


PACK = Scenario(
    prepare=_filling,
    act=_nothing,
    is_done=lambda stage: stage.count("FROM bundles WHERE state = 'frozen'") == 1,
    effects=("commit",),
    least=4,
)
SETTLE = Scenario(
    prepare=_unsettled,
    act=_nothing,
    is_done=lambda stage: stage.is_tidy() and not stage.count("FROM versions WHERE on_disk = 1"),
    effects=("commit", "create /state/staging/containers/s-"),
    least=10,
)


def _cold(stage: Stage) -> None:
    _put(stage)
    stage.archives()


def _wishes(stage: Stage) -> None:
    stage.ask(*(stage.client.wish(key, "Standard") for key in ("a", "b")))


def _is_restored(stage: Stage) -> bool:
    return stage.is_answered and stage.count("FROM versions WHERE restore_phase = 'restored'") == 2


RECALL = Scenario(
    prepare=_cold,
    act=_wishes,
    is_done=_is_restored,
    effects=("moving", "filesystem", "mover", "rename /state/staging/recall/", "commit", "answer"),
    least=40,
)


def _recalling(stage: Stage) -> None:
    _cold(stage)
    _wishes(stage)
    assert stage.until(lambda: stage.is_answered and bool(stage.world.disk.folders["/state/staging/recall"]))


FORGO = Scenario(
    # What is being recalled is deleted and overwritten.
    prepare=_recalling,
    act=lambda stage: stage.ask(stage.client.delete("a"), stage.put("b", storage_class=COLD)),
    is_done=lambda stage: (
        stage.is_answered
        and stage.is_tidy()
        and _has_no_tape(stage)
        and not stage.world.disk.folders["/state/staging/recall"]
    ),
    effects=("commit", "answer", "mover"),
    least=40,
)


def _place(stage: Stage) -> tuple[str, str]:
    """The cartridge of the first copy, and the bundle's name there."""
    ((barcode, bundle_id),) = stage.rows("SELECT barcode, bundle_id FROM copies ORDER BY pool LIMIT 1")
    return barcode, f"coldstore/bundles/{bundle_id}.tar"


def _worn(stage: Stage) -> None:
    _cold(stage)
    stage.world.floor.bad.add(_place(stage))
    stage.world.floor.flipped.add(_place(stage))


REREAD = Scenario(
    # The copy that is read first cannot be read: it is read from another one, and made anew.
    prepare=_worn,
    act=_wishes,
    is_done=_is_restored,
    effects=("mover 1 read", "unlink /state/staging/recall/", "mover 0 read", "commit"),
    least=42,
)


def _condemns(stage: Stage) -> None:
    barcode, _ = _place(stage)
    stage.world.operator.given_up.add(barcode)
    order = {"barcode": barcode, "action": "condemn", "reason": "old", "by": "olga"}
    Deferred.fromCoroutine(stage.world.operator.ask("POST", "/cartridges/change", order)).addErrback(
        stage.complain
    )


RENEW = Scenario(
    # A cartridge is condemned: what is on it is made anew from the other copies.
    prepare=_cold,
    act=_condemns,
    is_done=lambda stage: (
        stage.is_at_rest()
        and not any(
            stage.count("FROM copies WHERE barcode = ?", barcode) for barcode in stage.world.operator.given_up
        )
    ),
    effects=("mover", "commit", "filesystem"),
    least=45,
)


def _restored(stage: Stage) -> None:
    _cold(stage)
    _wishes(stage)
    assert stage.settles(lambda: _is_restored(stage) and stage.is_at_rest())
    assert stage.until(lambda: stage.count("FROM versions WHERE restore_expires_at <= ?", _soon(stage)) > 0)


def _soon(stage: Stage) -> float:
    return stage.world.reactor.seconds() + 30


EXPIRE = Scenario(
    settings="time: {day: 20m}\n",
    prepare=_restored,
    act=_nothing,
    is_done=lambda stage: (
        stage.is_at_rest() and not stage.count("FROM versions WHERE restore_phase IS NOT NULL")
    ),
    effects=("commit", "unlink /state/staging/containers/r-"),
    least=15,
)

_RULES = (
    b"<LifecycleConfiguration><Rule><ID>e</ID><Status>Enabled</Status><Filter><Prefix>a</Prefix></Filter>"
    b"<Expiration><Days>1</Days></Expiration></Rule><Rule><ID>m</ID><Status>Enabled</Status><Filter><Prefix>b</Prefix></Filter>"
    b"<Transition><Days>1</Days><StorageClass>GLACIER</StorageClass></Transition></Rule></LifecycleConfiguration>"
)


class _Fading(Ledger):
    """Of what is under rules nobody knows when they are carried out: whatever was seen, what may come remains possible."""

    def settle(self, key: str, size_bytes: int | None, digest: str | None = None) -> None:
        """See ``Ledger``."""


def _governed(stage: Stage) -> None:
    """What begins with ``a`` expires soon, what begins with ``b`` goes to a cold class; of both there is more than goes into a step."""
    stage.client.ledger = _Fading()
    keys = [f"{letter}{number:02}" for letter in "ab" for number in range(GOVERNED)]
    stage.has(*(stage.put(key) for key in keys))
    stage.archives()
    headers = {"content-md5": b64encode(md5(_RULES).digest()).decode()}
    stage.has(_answered(stage.client.ask("PUT", "", query="lifecycle=", headers=headers, body=_RULES)))
    ledger = stage.client.ledger
    for key in keys:
        (content,) = ledger.possible(key)
        assert content is not None
        ledger.uncertain(key, None if key.startswith("a") else replace(content, storage_class=COLD))
    assert stage.until(lambda: bool(stage.count("FROM lifecycle_ranges")))
    assert not stage.count("FROM audit_events WHERE who = 'lifecycle'")
    day = stage.world.settings.time.day_seconds
    due_at = (stage.world.reactor.seconds() // day + 2) * day
    stage.until(lambda: False, hours=(due_at - 5 - stage.world.reactor.seconds()) / HOUR)
    assert not stage.count("FROM audit_events WHERE who = 'lifecycle'")


async def _answered(request: Coroutine[Deferred[Any], Any, Any]) -> None:
    answer = await request
    assert answer is not None and answer.status == 200, answer


def _is_governed(stage: Stage) -> bool:
    """Whether each rule was carried out, and everything that was done is written down once."""
    counts = [
        stage.count("FROM audit_events WHERE who = 'lifecycle' AND subject LIKE ?", f"alpha/{letter}%")
        for letter in "ab"
    ]
    return (
        counts == [GOVERNED, GOVERNED]
        and not stage.count("FROM versions WHERE deleted_at IS NULL AND storage_class <> 'GLACIER'")
        and not stage.count("FROM versions WHERE deleted_at IS NULL AND on_disk = 1")
        and stage.is_at_rest()
    )


GOVERN = Scenario(
    settings="time: {day: 20m}\n",
    prepare=_governed,
    act=_nothing,
    is_done=_is_governed,
    effects=("commit",),
    least=10,
)
# ── the disk ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _scattered(stage: Stage) -> None:
    keys = "abcdef"
    stage.has(*(stage.put(key) for key in keys))
    stage.archives()
    # The segment is sealed by the next start; a short one that is open keeps its dead.
    stage.world.kill()
    assert stage.until(stage.is_serving)
    stage.has(*(stage.client.delete(key) for key in keys[2:]))
    assert stage.until(stage.is_tidy)


def _is_compact(stage: Stage) -> bool:
    """Whether there are no dead pieces any more: the segment that they were in is gone, and what lived in it lies elsewhere."""
    names = stage.world.disk.folders["/state/staging/containers"]
    return stage.is_tidy() and not any(name.endswith(".dead") for name in names)


COMPACT = Scenario(
    prepare=_scattered,
    act=_nothing,
    is_done=_is_compact,
    effects=("create /state/staging/containers/s-", "commit", "unlink /state/staging/containers/s-"),
    least=20,
)
# ── a start ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _cut_off(stage: Stage) -> None:
    """Everything is under way at once: uploads, copies to tape, recalls, what is discarded. Then the process is killed."""
    _cold(stage)
    stage.has(
        stage.put("c", LARGE), stage.put("d", storage_class=COLD), stage.client.delete("c"), stage.put("e")
    )
    assert stage.until(lambda: _in_state(stage, "writing"))
    _wishes(stage)
    assert stage.until(lambda: bool(stage.world.disk.folders["/state/staging/recall"]))
    stage.ask(stage.client.multipart("f", stage.content(LARGE, KEPT), spare=stage.content(LARGE, KEPT)))
    assert stage.until(lambda: bool(stage.world.disk.folders["/state/staging/incoming"]))
    stage.world.kill()


RECOVER = Scenario(
    prepare=_cut_off,
    act=_nothing,
    is_done=lambda stage: stage.is_serving() and _is_restored(stage) and not stage.judge.unfinished(),
    effects=("open the database", "commit", "unlink /state/staging/incoming/", "mover 0 read"),
    least=55,
)
SCENARIOS = {
    "put small": PUT_SMALL,
    "put large": PUT_LARGE,
    "multipart": MULTIPART,
    "overwrite": OVERWRITE,
    "abort": ABORT,
    "delete": DELETE,
    "archive": ARCHIVE,
    "verify": VERIFY,
    "evict": EVICT,
    "pack": PACK,
    "settle": SETTLE,
    "outdate": OUTDATE,
    "recall": RECALL,
    "forgo": FORGO,
    "reread": REREAD,
    "renew": RENEW,
    "expire": EXPIRE,
    "govern": GOVERN,
    "compact": COMPACT,
    "recover": RECOVER,
}
