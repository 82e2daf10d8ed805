"""
A client whose bucket has lifecycle rules, and what must hold of what they do: nothing early, nothing twice, nothing that no rule is about, and in
the end everything.

Early is what comes before it is due by the times that the record has: a clock that is set wrong makes those wrong as well.
"""

import re
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from hashlib import md5
from typing import TYPE_CHECKING, Any

from coldstore.plan.lifecycle import begun_by, due_at
from tests.endtoend.ledger import Content, Ledger
from tests.simulation.clients import Client
from tests.simulation.wire import NoAnswer

if TYPE_CHECKING:
    from tests.simulation.world import World

BUCKET = "gamma"
EXPIRING, MOVING, KEPT = "g0/e", "g0/m", "g0/k"
"""How keys begin that rules are about, and those that none is about."""
DOES = {"expiring": 30, "moving": 20, "kept": 20, "kept_read": 20, "rules": 1}
_RULE = (
    "<Rule><ID>{name}</ID><Status>Enabled</Status><Filter><Prefix>{prefix}</Prefix></Filter>{action}</Rule>"
)
RULES = "".join(
    (
        "<LifecycleConfiguration>",
        _RULE.format(name="e", prefix=EXPIRING, action="<Expiration><Days>1</Days></Expiration>"),
        _RULE.format(
            name="m",
            prefix=MOVING,
            action="<Transition><Days>1</Days><StorageClass>GLACIER</StorageClass></Transition>",
        ),
        "</LifecycleConfiguration>",
    )
).encode()


class MovingLedger(Ledger):
    """What a rule is about may have become cold."""

    def possible(self, key: str) -> list[Content | None]:
        """See ``Ledger``."""
        found = super().possible(key)
        if not key.startswith(MOVING):
            return found
        return found + [replace(content, storage_class="GLACIER") for content in found if content is not None]


class Governed(Client):
    """It makes its bucket, gives it rules, and puts what they are about and what they are not."""

    def __init__(self, **named: Any) -> None:
        super().__init__("g0", **named)
        self.bucket = BUCKET
        self.ledger = MovingLedger()
        self._names, self._weights = list(DOES), list(DOES.values())
        self._has_rules = False
        self._count = 0

    async def _did(self, name: str) -> None:
        await (super()._did(name) if self._has_rules else self._rules())

    def _new_key(self, beginning: str) -> str:
        self._count += 1
        return f"{beginning}{self._count:05}"

    async def _rules(self) -> None:
        """Give the bucket its rules; again and again, for they are what they were."""
        try:
            made = await self.ask("PUT", "")
            if made is None or made.status not in (200, 409):
                return
            headers = {"content-md5": b64encode(md5(RULES).digest()).decode()}
            answer = await self.ask("PUT", "", query="lifecycle=", headers=headers, body=RULES)
        except NoAnswer:
            return
        self._has_rules = self._has_rules or (answer is not None and answer.status == 200)

    async def _expiring(self) -> None:
        (body,) = self._content().parts()
        try:
            await self.ask("PUT", self._new_key(EXPIRING), body=body)
        except NoAnswer:
            return

    async def _moving(self) -> None:
        await self.put(self._new_key(MOVING), replace(self._content(), storage_class="STANDARD"))

    async def _kept(self) -> None:
        await self.put(self._new_key(KEPT), self._content())

    async def _kept_read(self) -> None:
        kept = self.ledger.names()
        if kept:
            await self.read(self._random.choice(kept))


class GovernedJudge:
    """Looks at what rules did, again and again."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._created: dict[str, float] = {}
        self._acted: set[tuple[str, str]] = set()
        self._seen = 0

    def _rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        return self._world.database.connection.execute(query, values).fetchall()

    def complaints(self) -> Iterator[str]:
        """What was done early, twice, or to something that no rule is about."""
        day = self._world.settings.time.day_seconds
        self._created |= dict(
            self._rows(
                "SELECT CAST(v.key AS TEXT), v.created_at FROM versions v JOIN buckets b USING (bucket_uid) WHERE b.name = ?",
                BUCKET,
            )
        )
        for event_id, at, what, subject in self._rows(
            "SELECT event_id, at, what, subject FROM audit_events WHERE event_id > ? AND who = 'lifecycle' ORDER BY event_id",
            self._seen,
        ):
            self._seen = event_id
            key = re.sub(r"\?versionId=.*", "", subject.removeprefix(f"{BUCKET}/"))
            wanted = EXPIRING if what == "expire object" else MOVING
            if not key.startswith(wanted):
                yield f"lifecycle: {what} {key}, which no rule is about"
            if (what, key) in self._acted:
                yield f"lifecycle: {what} {key} twice"
            self._acted.add((what, key))
            # Not known: it was created and expired between two looks, by a clock that was set a day ahead.
            created_at = self._created.get(key)
            if created_at is not None and at < due_at(created_at, 1, day_seconds=day):
                yield f"lifecycle: {what} {key} at {at}, created at {created_at}"

    def unfinished(self) -> list[str]:
        """What is due and not done."""
        if not self._world.governed:
            return []
        day = self._world.settings.time.day_seconds
        until = begun_by(self._world.time_of_day(), 1, day_seconds=day)
        ((count,),) = self._rows(
            "SELECT count(*) FROM versions v JOIN buckets b USING (bucket_uid) WHERE b.name = ? AND v.deleted_at IS NULL"
            " AND v.created_at <= ? AND (CAST(v.key AS TEXT) LIKE ? OR CAST(v.key AS TEXT) LIKE ? AND v.storage_class <> 'GLACIER')",
            BUCKET,
            until,
            f"{EXPIRING}%",
            f"{MOVING}%",
        )
        return [f"{count} versions are due by rules"] if count else []

    @property
    def act_count(self) -> int:
        """How many acts there were."""
        return len(self._acted)
