"""
A ledger of the restores that the appliance has accepted: each ends within its bound, or is told to have failed, or its object is gone.

What is counted is *able* time: that in which nothing outside the appliance kept it from this restore. Not counted is a stretch between two looks at
the beginning or the end of which

- nobody served, or somebody began to (whoever starts must take over what his predecessor left in the drives);
- the database or the library was away, the disk full or read-only, the machine's clock wrong, the robot hung or had a cartridge in its gripper;
- no drive was alive, up, and not hanging in something that has to be given up first;
- some extent of it had no copy that could be read: its cartridge outside, mislabelled, in a drive that does not work, not to be read any more
  or in doubt, or the file spoiled;
- the disk was fuller than recalls may make it, and an alert said that they wait for room.

Single faults (a read that fails, a robot that refuses, a kill) are not taken out: the bounds have to have room for them.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coldstore.config.schema import Configuration
from coldstore.model.cartridges import READABLE, CartridgeState

if TYPE_CHECKING:
    from tests.simulation.world import World

COMPLETED, FAILED = "s3:ObjectRestore:Completed", "coldstore:Restore:Failed"
NOT_DONE, NOT_TOLD = "is not done after", "is not under way any more, and no message told of its end"
"""Words of complaints."""
AT_THAT_TIME = "at that time:"
"""How the line of a complaint begins that says what went on: in another world it is another one."""
HOUR = 3600.0
_USABLE = READABLE - {CartridgeState.SUSPECT}
FULL_PART = 0.6
"""Of the disk: below that no recall waits for room."""
APART_SECONDS = 3600.0
"""How long a drive and a cartridge that failed together are kept apart; see ``BlamePolicy``."""


def bounds(settings: Configuration) -> dict[str, float]:
    """
    Able seconds within which a restore of each tier has to end: what its tier promises, and what the design puts before that.

    A request that has waited for the target of its tier is ranked as one of the next faster tier and goes before all whose deadline is later
    (``turns.urgency``): so from then on it waits for two things at most. Sessions that have a drive keep it for ``max_hold``, archives that are owed
    one (``plan_give_way``) or what is as old as itself; and when it has one, another batch may have the cartridge for as long. The end of a bundle and
    the exchange of cartridges are a small part of that. One failure on the way is allowed for, after which a drive and a cartridge may be kept
    apart for an hour.
    """
    tiers, hold = settings.recall.tiers, settings.mount.max_hold_seconds
    targets = {"Expedited": tiers.expedited, "Standard": tiers.standard, "Bulk": tiers.bulk}
    return {name: tier.target_seconds + 2 * hold + APART_SECONDS for name, tier in targets.items()}


@dataclass(slots=True, kw_only=True)
class Entry:
    """
    A restore under way.

    :ivar message_id: the last message that there was when it was seen first
    """

    version_uid: int
    key: str
    tier: str
    requested_at: float
    seen_at: float
    message_id: int
    able_seconds: float = 0.0
    hindered_by: str = ""
    is_told: bool = False

    def __str__(self) -> str:
        return f"{self.tier} restore of {self.key}"


class Restores:
    """
    Looks at a world again and again.

    :ivar ended: restores that came to their end, and when, for who wants to know how long they took
    :ivar able_seconds: how much of the time between the last two looks nothing kept the appliance from its work, all of it or nothing
    """

    def __init__(self, world: "World") -> None:
        self._world = world
        self.able_seconds = 0.0
        self.under_way: dict[int, Entry] = {}
        self.ended: list[tuple[Entry, float]] = []
        self._bounds = bounds(world.settings)
        self._began_at = self._looked_at = world.reactor.seconds()
        self._lives = 0
        self._was_able = False
        self._message_id = 0
        self._taken = 0
        self._told: dict[str, int] = {}

    def _rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        return self._world.database.connection.execute(query, values).fetchall()

    def look(self) -> Iterator[str]:
        """Take what has happened since the last look into account; return what is wrong."""
        world = self._world
        now = world.reactor.seconds()
        rows = self._rows(
            "SELECT version_uid, CAST(key AS TEXT), restore_tier, restore_requested_at FROM versions"
            " WHERE restore_phase = 'ongoing' ORDER BY version_uid"
        )
        found = {row[0]: row for row in rows}
        for uid, entry in list(self.under_way.items()):
            row = found.get(uid)
            if row is None or row[3] != entry.requested_at:
                yield from self._end(entry, now)
                del self.under_way[uid]
            elif row[2] != entry.tier:
                # A faster one was asked for: from now on that is promised.
                entry.tier, entry.seen_at, entry.able_seconds = row[2], now, 0.0
        hindrance = self._hindrance()
        blocked = self._blocked() if found and not hindrance else {}
        is_able = self._was_able and not hindrance and world.lives == self._lives
        self.able_seconds = now - self._looked_at if is_able else 0.0
        for entry in self.under_way.values():
            hindered = hindrance or blocked.get(entry.version_uid, "")
            if not hindered and not entry.hindered_by:
                entry.able_seconds += self.able_seconds
                yield from self._overdue(entry)
            entry.hindered_by = hindered
        for uid, key, tier, requested_at in rows:
            if uid not in self.under_way:
                self.under_way[uid] = Entry(
                    version_uid=uid,
                    key=key,
                    tier=tier,
                    requested_at=requested_at,
                    seen_at=now,
                    message_id=self._last_message_id(),
                    hindered_by=hindrance or blocked.get(uid, ""),
                )
        self._looked_at, self._lives, self._was_able = now, world.lives, not hindrance

    def _overdue(self, entry: Entry) -> Iterator[str]:
        bound = self._bounds[entry.tier]
        if entry.able_seconds > bound and not entry.is_told:
            entry.is_told = True
            accepted = (entry.seen_at - self._began_at) / HOUR
            yield (
                f"{entry}, accepted {accepted:.1f} hours after the beginning, {NOT_DONE} {bound / HOUR:.1f} hours in"
                f" which it could have been\n{AT_THAT_TIME} {'; '.join(self._situation())}"
            )

    def _situation(self) -> Iterator[str]:
        """What goes on now."""
        floor = self._world.floor
        states = dict(self._rows("SELECT element, state FROM drives"))
        for drive in floor.library.drives:
            name = f"drive-{drive.number}"
            words = [states.get(drive.number, "unknown"), drive.barcode or "empty"]
            words += ["at work"] if floor.at_work(name) else []
            words += ["hanging"] if name in floor.hanging else []
            words += ["dead"] if drive.number in floor.dead else []
            yield f"{name} {', '.join(words)}"
        waiting = Counter(entry.tier for entry in self.under_way.values())
        yield f"{', '.join(f'{count} {tier}' for tier, count in sorted(waiting.items()))} under way"
        ((copies,),) = self._rows("SELECT count(*) FROM copies WHERE state NOT IN ('verified', 'failed')")
        yield f"{copies} copies to make"
        alerts = self._rows("SELECT DISTINCT kind FROM alerts WHERE cleared_at IS NULL ORDER BY kind")
        yield f"alerts: {', '.join(kind for (kind,) in alerts) or 'none'}"

    # ── ends ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _last_message_id(self) -> int:
        rows = self._rows("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'")
        return int(rows[0][0]) if rows else 0

    def _end(self, entry: Entry, now: float) -> Iterator[str]:
        """See that somebody was told how a restore ended, unless its object is gone."""
        self.ended.append((entry, now))
        rows = self._rows("SELECT deleted_at FROM versions WHERE version_uid = ?", entry.version_uid)
        if not rows or rows[0][0] is not None:
            return
        if max(self._last_told(entry.key), self._last_waiting(entry.key)) <= entry.message_id:
            yield f"{entry} {NOT_TOLD}"

    def _last_told(self, key: str) -> int:
        taken = self._world.target.taken
        for message in taken[self._taken :]:
            if message.event in (COMPLETED, FAILED):
                name = message.key.decode()
                self._told[name] = max(message.message_id, self._told.get(name, 0))
        self._taken = len(taken)
        return self._told.get(key, 0)

    def _last_waiting(self, key: str) -> int:
        ((last,),) = self._rows(
            "SELECT coalesce(max(message_id), 0) FROM outbox WHERE key = CAST(? AS BLOB) AND event IN (?, ?)",
            key,
            COMPLETED,
            FAILED,
        )
        return int(last)

    # ── what keeps it from work ─────────────────────────────────────────────────────────────────────────────────────

    def _hindrance(self) -> str:
        """What keeps the appliance from any restore now."""
        world, floor = self._world, self._world.floor
        if world.run is None or not world.run.is_serving:
            return "nobody serves"
        if world.database.is_away:
            return "the database is away"
        if world.is_disk_full or world.is_disk_read_only:
            return "the disk takes nothing"
        if world.clock_error:
            return "the clock is wrong"
        if floor.is_library_away or floor.library.gripper is not None or "robot" in floor.hanging:
            return "the library does not work"
        if not self._working():
            return "no drive works"
        is_full = world.disk.allocated_pages * 4096 > FULL_PART * world.settings.staging.capacity_bytes
        if is_full and self._rows(
            "SELECT 1 FROM alerts WHERE kind = 'waiting-for-space' AND cleared_at IS NULL"
        ):
            return "the disk is too full"
        return ""

    def _working(self) -> set[int]:
        """Drives that are up, alive, and do not hang."""
        floor = self._world.floor
        return {
            index
            for index, state in self._rows("SELECT element, state FROM drives")
            if state == "up" and index not in floor.dead and f"drive-{index}" not in floor.hanging
        }

    def _blocked(self) -> dict[int, str]:
        """Restores of which some extent has no copy that can be read now, by version."""
        floor = self._world.floor
        away = self._away()
        readable: dict[tuple[int, int], bool] = {}
        for uid, extent, bundle_id, barcode, state in self._rows(
            "SELECT m.version_uid, m.extent, m.bundle_id, c.barcode, c.state FROM versions v"
            " JOIN members m USING (version_uid) LEFT JOIN copies c USING (bundle_id)"
            " WHERE v.restore_phase = 'ongoing' AND v.on_disk = 0"
        ):
            is_readable = (
                barcode is not None
                and state in ("synced", "verified")
                and barcode not in away
                and (barcode, f"coldstore/bundles/{bundle_id}.tar") not in floor.flipped
            )
            readable[uid, extent] = readable.get((uid, extent), False) or is_readable
        return {uid: "no copy can be read" for (uid, _), is_readable in readable.items() if not is_readable}

    def _away(self) -> set[str]:
        """Cartridges that cannot be read now."""
        world, floor = self._world, self._world.floor
        away = {
            barcode
            for barcode, state, is_present in self._rows("SELECT barcode, state, is_present FROM cartridges")
            if not is_present or state not in _USABLE
        }
        away |= world.operator.outside.keys() | floor.unreadable | floor.vanished
        away |= floor.double.keys() | set(floor.double.values())
        working = self._working()
        away |= {
            drive.barcode
            for drive in floor.library.drives
            if drive.barcode is not None and drive.number not in working
        }
        return away
