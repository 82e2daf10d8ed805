"""
The person in charge: admits cartridges, looks in a few times a day, repairs what is broken, and does what the alerts say.

Orders go through the operator's interface of the running appliance; hands go to the library.
"""

import hashlib
import json
from base64 import b64encode
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.testing import StringTransport
from twisted.web.server import Site

from coldstore.testing.library import SimulatedLibrary
from tests.simulation.chance import HOUR
from tests.simulation.clients import LOCKING
from tests.simulation.life import LifeIsOver, LifeReactor

if TYPE_CHECKING:
    from tests.simulation.world import World

LOOK_HOURS = (2.0, 8.0)
KEEPS_VERSIONS = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
"""What is overwritten and deleted stays, and goes to tape as well."""
LOCKS_THEM = (
    b"<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>"
    b"<Mode>COMPLIANCE</Mode><Days>1</Days></DefaultRetention></Rule></ObjectLockConfiguration>"
)
ADMITTED_AT_FIRST = 10
SCRATCH_LEAST = 3
WAIT_SECONDS = 30.0


class Operator:
    """One for the whole world. ``complaints`` are answers that make no sense."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._random = world.chance.stream("operator")
        self.complaints: list[str] = []
        self.outside: dict[str, int] = {}
        """Cartridges on the desk, and the slots they came from."""
        self.admitted: set[str] = set()
        self.given_up: set[str] = set()
        """Cartridges that were condemned: nothing on them counts any more."""
        self.is_ready = False
        self._users = 0

    def begin(self) -> None:
        """Come to work."""
        self._world.reactor.callLater(5.0, self._look)

    def _look(self) -> None:
        Deferred.fromCoroutine(self._round()).addBoth(self._looked)

    def _looked(self, outcome: Any) -> None:
        if outcome is not None:
            self.complaints.append(f"operator: {outcome.getTraceback()}")
        pause = self._random.uniform(*LOOK_HOURS) * HOUR if self.is_ready else 10.0
        self._world.reactor.callLater(pause, self._look)

    async def _round(self) -> None:
        status = await self.ask("GET", "/status")
        if status is None:
            return
        if not self.is_ready:
            await self._prepare()
            return
        self._repair()
        for drive in await self.ask("GET", "/drives") or []:
            if drive["state"] != "up":
                self._world.switch_off_others()
                await self.ask(
                    "POST",
                    "/drives/change",
                    {"drive": drive["drive"], "state": "up", "reason": "repaired", "by": "olga"},
                )
        cartridges = await self.ask("GET", "/cartridges") or []
        scratch = [each for each in cartridges if each["state"] == "scratch"]
        new = sorted(each["barcode"] for each in cartridges if each["state"] == "unadmitted")
        if len(scratch) < SCRATCH_LEAST and new:
            await self._admit(new[:4])
        for each in cartridges:
            if each["state"] == "suspect":
                action = "trust"
                if self._random.random() < 0.3 and self._holds_nothing_alone(each["barcode"]):
                    action = "condemn"
                    self.given_up.add(each["barcode"])
                await self.ask(
                    "POST",
                    "/cartridges/change",
                    {"barcode": each["barcode"], "action": action, "reason": "looked at it", "by": "olga"},
                )
                self._world.tell(f"operator: {action} {each['barcode']}")

    def _holds_nothing_alone(self, barcode: str) -> bool:
        """Whether everything verified on a cartridge is verified, and good, on another one: whoever condemns it looks that up."""
        world = self._world
        rows = world.database.connection.execute(
            "SELECT bundle_id FROM copies WHERE barcode = ? AND state IN ('verified', 'synced', 'lost')",
            (barcode,),
        ).fetchall()
        for (bundle_id,) in rows:
            others = world.database.connection.execute(
                "SELECT barcode FROM copies WHERE bundle_id = ? AND state = 'verified' AND barcode != ?",
                (bundle_id, barcode),
            ).fetchall()
            path = f"coldstore/bundles/{bundle_id}.tar"
            if not any(
                other not in self.given_up and (other, path) not in world.floor.flipped for (other,) in others
            ):
                return False
        return True

    async def _prepare(self) -> None:
        """The first morning: user, buckets, cartridges."""
        world = self._world
        run = world.run
        if run is None or not run.is_serving:
            return
        cartridges = await self.ask("GET", "/cartridges")
        if not cartridges:
            return
        while world.user is None:
            self._users += 1
            user = await self.ask("POST", "/users", {"name": f"alice{self._users}"})
            if user is None:
                return
            world.user = (user["access_key"], user["secret_key"])
        for client in world.clients[:2]:
            try:
                answer = await client.ask("PUT", "")
                if answer is not None and client.bucket == LOCKING:
                    answer = await client.ask("PUT", "", query="versioning=", body=KEEPS_VERSIONS)
                    digest = {"content-md5": b64encode(hashlib.md5(LOCKS_THEM).digest()).decode()}
                    answer = answer and await client.ask(
                        "PUT", "", query="object-lock=", headers=digest, body=LOCKS_THEM
                    )
            except Exception:  # noqa: BLE001 - asked again at the next look
                return
            if answer is None or answer.status not in (200, 409):
                return
        world.has_buckets = True
        barcodes = sorted(each["barcode"] for each in cartridges)
        # Not the first ones: that nobody has admitted those must count.
        await self._admit(sorted(self._random.sample(barcodes, min(ADMITTED_AT_FIRST, len(barcodes) - 1))))
        self.is_ready = bool(self.admitted)

    async def _admit(self, barcodes: list[str]) -> None:
        self.admitted.update(barcodes)
        await self.ask("POST", "/cartridges/admit", {"barcodes": barcodes, "by": "olga"})
        self._world.tell(f"operator: admits {', '.join(barcodes)}")

    # ── hands ───────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _library(self) -> SimulatedLibrary:
        return self._world.floor.library

    def _repair(self) -> None:
        """Replace dead drives, clear the gripper, put back what was taken out."""
        floor = self._world.floor
        floor.dead.clear()
        if self._library.gripper is not None:
            barcode, self._library.gripper = self._library.gripper, None
            self._put_back(barcode)
        for barcode in sorted(self.outside):
            del self.outside[barcode]
            self._put_back(barcode)

    def _put_back(self, barcode: str) -> None:
        free = self._library.free_slots()
        self._library.put(self._random.choice(free), barcode)
        self._world.tell(f"operator: puts {barcode} into the library")

    def pull_cartridge(self) -> None:
        """Take a cartridge out of its slot."""
        stored = self._library.stored()
        if stored:
            slot = self._random.choice(sorted(stored))
            self.outside[self._library.take_away(slot)] = slot

    def finish(self) -> None:
        """Put everything in order, for good."""
        self._repair()

    # ── orders ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def ask(self, method: str, target: str, document: Mapping[str, Any] | None = None) -> Any:
        """Ask the running appliance; None when it does not answer, or refuses for now."""
        run = self._world.run
        if run is None or not run.is_serving or run.life.is_over or run.life.is_frozen:
            return None
        body = b"" if document is None else json.dumps(document).encode()
        transport = StringTransport()
        site = Site(run.core.operator.private().resource(), reactor=LifeReactor(run.life))
        channel: Any = site.buildProtocol(None)  # type: ignore[arg-type]
        channel.makeConnection(transport)
        head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        try:
            channel.dataReceived(head.encode() + body)
        except LifeIsOver:
            return None
        end = self._world.reactor.seconds() + WAIT_SECONDS
        while not transport.disconnecting and not run.life.is_over and self._world.reactor.seconds() < end:
            pause: Deferred[None] = Deferred()
            self._world.reactor.callLater(0.02, pause.callback, None)
            await pause
        answer = transport.value()
        if not answer:
            return None
        answer_head, _, content = answer.partition(b"\r\n\r\n")
        status = int(answer_head.split()[1])
        if status == 200:
            return json.loads(content)
        if status not in (400, 409, 503):
            self.complaints.append(f"operator: {method} {target}: {status} {content!r}")
        return None
