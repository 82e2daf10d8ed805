"""
What must hold, at every moment and at the end. Each check returns sentences about what does not; cheap ones are made every few minutes of a
world's time, the others a few times a day.

The judge looks at the world itself, disk, tapes, library and database, and never asks the appliance.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coldstore.disk.addresses import SliceAddress
from coldstore.disk.framing import taken_bytes
from coldstore.disk.index import ContainerIndex
from coldstore.disk.layout import BLOCKS, RECORDS, SCRATCH, Layout
from coldstore.plan.lock import LEEWAY_SECONDS, PACE
from tests.simulation.governing import GovernedJudge
from tests.simulation.restores import COMPLETED, FAILED, Restores

if TYPE_CHECKING:
    from tests.simulation.world import World

BUNDLES = "coldstore/bundles"
UNLOCKED = "and was gone, or free to go,"
CLAIM_SECONDS = 2 * 3600.0
"""How long a bundle may be filling: a round of the packer takes seconds, and what a dead one was filling is taken up at the start."""
ACCOUNT_SECONDS = 3600.0
"""How long the account of the disk may be wrong: it is while bytes come, and no upload or recall takes so long."""


class Judge:
    """Looks at a world again and again; remembers what it has seen."""

    def __init__(self, world: "World", *, account_slack_bytes: int = 64 * 1024) -> None:
        """:param account_slack_bytes: how far the appliance may be wrong about what its disk holds"""
        self._world = world
        self._account_slack_bytes = account_slack_bytes
        self.restores = Restores(world)
        self.governed = GovernedJudge(world)
        self._lasts: dict[str, float] = {}
        self._off_disk: set[int] = set()
        self._renewed: set[str] = set()
        """Bundles that have lost a copy: it is made anew, long after their members left the disk."""
        self._digests: dict[int, tuple[bytes, str]] = {}
        self._retained: dict[int, float] = {}
        """By uid, until when versions are under lock."""
        self._looked_at = 0.0
        self._ahead_seconds = 0.0
        """For how long the clock was ahead: the time of locks may have gained as much."""

    def _rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        return self._world.database.connection.execute(query, values).fetchall()

    def look(self) -> list[str]:
        """What is wrong at a glance. Some of it may be so for a while, and that is reckoned from look to look."""
        if not self._rows("SELECT 1 FROM sqlite_master WHERE name = 'versions'"):
            return []
        self._renewed.update(
            bundle_id for (bundle_id,) in self._rows("SELECT bundle_id FROM copies WHERE state = 'lost'")
        )
        found = [*self._world.complaints, *self._world.floor.violations, *self.restores.look()]
        found += self._under_lock()
        if self._world.governed:
            found += self.governed.complaints()
        lasts: dict[str, float] = {}
        for name, sentence, limit_seconds in self._temporary():
            lasts[name] = self._lasts.get(name, 0.0) + (
                self.restores.able_seconds if name in self._lasts else 0
            )
            if lasts[name] > limit_seconds:
                found.append(
                    f"{sentence}, for {limit_seconds / 3600:g} hours in which nothing was in the way"
                )
        self._lasts = lasts
        return found

    def _under_lock(self) -> Iterator[str]:
        """What is under lock is there, and for no shorter a time than before; whatever the clock says."""
        now = self._world.reactor.seconds()
        if self._world.clock_error > 0:
            self._ahead_seconds += now - self._looked_at
        self._looked_at = now
        living = dict(
            self._rows(
                "SELECT version_uid, retain_until FROM versions WHERE retain_until > 0 AND deleted_at IS NULL"
            )
        )
        over = now + LEEWAY_SECONDS + PACE * self._ahead_seconds
        for uid, until in self._retained.items():
            if until > over and living.get(uid, 0.0) < until:
                yield f"version {uid} is under lock until {until}, {UNLOCKED} at {now}"
        self._retained = {uid: until for uid, until in self._retained.items() if until > over} | living

    def _temporary(self) -> Iterator[tuple[str, str, float]]:
        """What may be so for a while: a name, a sentence, and for how many seconds."""
        for (bundle_id,) in self._rows("SELECT bundle_id FROM bundles WHERE state = 'filling'"):
            yield bundle_id, f"bundle {bundle_id} is being filled", CLAIM_SECONDS
        if self._world.run is not None and self._world.run.is_serving:
            for sentence in self.account():
                yield f"account of life {self._world.lives}", sentence, ACCOUNT_SECONDS

    def complaints(self) -> list[str]:
        """What is wrong now."""
        return [
            *self._one_place(),
            *self._evicted_too_early(),
            *self._on_tape(),
            *self._admitted(),
            *self._apart(),
            *self._world.floor.violations,
        ]

    def _one_place(self) -> Iterator[str]:
        """A cartridge is in one place."""
        library = self._world.floor.library
        places = Counter(library.stored().values())
        places.update(drive.barcode for drive in library.drives if drive.barcode is not None)
        places.update(self._world.operator.outside.keys())
        if library.gripper is not None:
            places[library.gripper] += 1
        for barcode, count in places.items():
            if count != 1:
                yield f"{barcode} is in {count} places"

    def _evicted_too_early(self) -> Iterator[str]:
        """Nothing leaves the disk before all of its copies are verified."""
        gone = {
            uid
            for (uid,) in self._rows(
                "SELECT version_uid FROM versions WHERE on_disk = 0 AND size_bytes > 0 AND deleted_at IS NULL"
            )
        }
        for uid in sorted(gone - self._off_disk):
            states = self._rows(
                "SELECT m.bundle_id, c.state FROM members m LEFT JOIN copies c USING (bundle_id) WHERE m.version_uid = ?",
                uid,
            )
            if not states or any(
                state not in ("verified", "lost") and bundle_id not in self._renewed
                for bundle_id, state in states
            ):
                yield f"version {uid} has left the disk, and its copies are {states}"
        self._off_disk = gone

    def _on_tape(self) -> Iterator[str]:
        """What the record calls synced is listed by the last index on tape; what it calls verified gives back its bytes."""
        tapes = self._world.floor.tapes
        for bundle_id, barcode, state, sha256 in self._rows(
            "SELECT c.bundle_id, c.barcode, c.state, b.sha256 FROM copies c JOIN bundles b USING (bundle_id)"
            " WHERE c.state IN ('synced', 'verified')"
        ):
            medium = tapes.media.get(barcode)
            path = f"{BUNDLES}/{bundle_id}.tar"
            if medium is None or path not in medium.tree.files:
                yield f"bundle {bundle_id} is {state} on {barcode}, whose index does not list it"
            elif state == "verified" and (barcode, path) not in self._world.floor.flipped:
                found = self._digest(medium.tree.files[path].content)
                if found != sha256:
                    yield f"bundle {bundle_id} is verified on {barcode}, and is another one there: {found}, {sha256}"

    def _digest(self, content: bytes) -> str:
        known = self._digests.get(id(content))
        if known is None or known[0] is not content:
            known = self._digests[id(content)] = (content, hashlib.sha256(content).hexdigest())
        return known[1]

    def _admitted(self) -> Iterator[str]:
        """No cartridge is formatted that was not admitted."""
        for barcode, medium in self._world.floor.tapes.media.items():
            if medium.volume_uuid is not None and barcode not in self._world.operator.admitted:
                yield f"{barcode} was formatted, and nobody admitted it"

    def _apart(self) -> Iterator[str]:
        """The copies of a bundle are on different cartridges."""
        for bundle_id, barcode, count in self._rows(
            "SELECT bundle_id, barcode, count(*) FROM copies WHERE barcode IS NOT NULL GROUP BY 1, 2 HAVING count(*) > 1"
        ):
            yield f"{count} copies of bundle {bundle_id} are on {barcode}"

    # ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def unfinished(self) -> list[str]:
        """What is still under way; nothing must be, some time after the last fault."""
        found = []
        for what, query in (
            (
                "versions wait for tape",
                "SELECT count(*) FROM versions WHERE archive_state != 'archived' AND deleted_at IS NULL AND size_bytes > 0",
            ),
            ("copies are under way", "SELECT count(*) FROM copies WHERE state NOT IN ('verified', 'failed')"),
            ("bundles are under way", "SELECT count(*) FROM bundles WHERE state NOT IN ('archived', 'void')"),
            (
                "restores are ongoing",
                "SELECT count(*) FROM versions WHERE restore_phase = 'ongoing' AND deleted_at IS NULL",
            ),
            ("messages wait", "SELECT count(*) FROM outbox WHERE dead_at IS NULL"),
            ("drives are down", "SELECT count(*) FROM drives WHERE state != 'up'"),
        ):
            ((count,),) = self._rows(query)
            if count:
                found.append(f"{count} {what}")
        return found + self.governed.unfinished()

    def untold(self) -> list[str]:
        """Restores that came to an end, of which no message told, and messages that came out of order."""
        found = []
        told: dict[str, list[int]] = {}
        for message in self._world.target.taken:
            key = message.key.decode()
            if message.event in (COMPLETED, FAILED):
                told.setdefault(key, []).append(message.message_id)
        for client in self._world.clients:
            for key, count in sorted(client.restored.items()):
                if len(set(told.get(key, ()))) < count:
                    found.append(
                        f"{key} was restored {count} times, and {len(set(told.get(key, ())))} messages told of it"
                    )
        for key, ids in sorted(told.items()):
            first_told = list(dict.fromkeys(ids))
            if first_told != sorted(first_told):
                found.append(f"messages about {key} came in the order {first_told}")
        return found

    def account(self) -> list[str]:
        """Whether the appliance's account of the disk is what the disk holds."""
        run = self._world.run
        if run is None or not run.is_serving:
            return ["nobody serves"]
        usage = run.core.control.usage()
        present = self._world.disk.allocated_pages * 4096
        # What segments have allocated ahead counts as reserved.
        counted = usage.used_bytes + usage.reserved_bytes
        if abs(counted - present) > self._account_slack_bytes:
            return [f"the account says {counted} bytes, the disk holds {present}"]
        return []

    def leaks(self) -> list[str]:
        """What lies on the disk and belongs to nobody, and what belongs to somebody and is not there."""
        return [*self.account(), *self._strays()]

    def _strays(self) -> Iterator[str]:
        """Everything that is stored for good is named by the record, or is about to be freed."""
        named = {
            address
            for (address,) in self._rows("SELECT address FROM pieces UNION SELECT address FROM discards")
        }
        layout = Layout(Path(self._world.settings.staging_directory))
        files = self._world.disk.names
        for path in sorted(files):
            folder, name = os.path.split(path)
            if name.endswith(SCRATCH):
                # Held by this run until it lacks the room, and dropped at the next start.
                continue
            if folder in (str(layout.incoming), str(layout.recall)):
                yield f"{path} was given up, and is still there"
            elif folder.startswith(f"{layout.files}/") and f"f-{name.removesuffix(BLOCKS)}" not in named:
                yield f"{path} is nobody's"
            elif folder == str(layout.containers) and name.endswith(RECORDS):
                container = name.removesuffix(RECORDS)
                dead = files.get(str(layout.dead(container)))
                index = ContainerIndex.decoded(
                    bytes(files[path].content),
                    b"" if dead is None else bytes(dead.content),
                    taken_bytes=partial(taken_bytes, container),
                )
                for piece in index.living((-1, -1), len(index) + 1):
                    if str(SliceAddress(container, *piece)) not in named:
                        yield f"{piece} in {container} is nobody's"
