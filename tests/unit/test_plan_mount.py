"""What idle drives are given to do."""

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from coldstore.model.cartridges import Cartridge, CartridgeState
from coldstore.model.objects import Tier
from coldstore.plan.mount import (
    TAKES_BUNDLES,
    CopyToVerify,
    CopyToWrite,
    DoArchive,
    DoRecall,
    DoUnload,
    DrivePlan,
    DriveView,
    MountPolicy,
    TierPolicy,
    plan_drives,
)
from coldstore.plan.recall import Batch, Source, Wanted, plan_batches

POLICY = MountPolicy(
    tiers={
        Tier.EXPEDITED: TierPolicy(hold_seconds=0, enough_bytes=1, enough_items=1, limit_seconds=300),
        Tier.STANDARD: TierPolicy(hold_seconds=600, enough_bytes=1000, enough_items=50, limit_seconds=18_000),
        Tier.BULK: TierPolicy(hold_seconds=7200, enough_bytes=1000, enough_items=50, limit_seconds=43_200),
    },
    idle_unload_seconds=300,
    max_hold_seconds=3600,
    reserve_fraction=0.05,
    reserve_bytes=10,
    session_bytes_max=1000,
)


def cartridge(
    barcode: str, *, state: CartridgeState = CartridgeState.FILLING, pool: str = "main", free: int = 1000
) -> Cartridge:
    return Cartridge(
        barcode=barcode,
        state=state,
        pool=pool,
        volume_uuid="",
        home_slot=1,
        is_present=True,
        capacity_bytes=1000,
        free_bytes=free,
        written_bytes=0,
        loads=0,
        failures=0,
        needs_check=False,
        format_nonce="",
        admitted_at=0.0,
        admitted_by="test",
        reason="",
        changed_at=0.0,
        changed_by="test",
    )


def drive(
    index: int,
    *,
    barcode: str | None = None,
    busy: bool = False,
    idle_since: float = 0.0,
    archive: bool = False,
    last: bool = False,
) -> DriveView:
    return DriveView(
        index=index,
        is_up=True,
        is_busy=busy,
        barcode=barcode,
        idle_since=idle_since,
        last_was_archive=last,
        works_on_archive=archive,
    )


def wanted(uid: int, *barcodes: str, tier: Tier = Tier.EXPEDITED, at: float = 0.0, block: int = 0) -> Wanted:
    return Wanted(
        version_uid=uid,
        extent=0,
        bundle_id="b",
        bundle_offset_bytes=uid,
        length_bytes=10,
        tier=tier,
        asked_at=at,
        sources=tuple(Source(barcode=barcode, partition="b", start_block=block) for barcode in barcodes),
    )


def batch(barcode: str, *, tier: Tier = Tier.EXPEDITED, at: float = 0.0) -> Batch:
    return plan_batches([wanted(1, barcode, tier=tier, at=at)], readable={barcode}, loaded=()).batches[0]


def copy(
    bundle: str, pool: str = "main", *, size: int = 100, others: frozenset[str] = frozenset()
) -> CopyToWrite:
    return CopyToWrite(bundle_id=bundle, pool=pool, size_bytes=size, other_barcodes=others)


class MountTests(SynchronousTestCase):
    """``plan_drives``."""

    def plan(
        self,
        *,
        now: float = 0.0,
        drives: list[DriveView],
        batches: list[Batch] | None = None,
        to_write: list[CopyToWrite] | None = None,
        to_verify: list[CopyToVerify] | None = None,
        cartridges: list[Cartridge] | None = None,
        avoid: set[tuple[int, str]] | None = None,
    ) -> DrivePlan:
        return plan_drives(
            now,
            drives=drives,
            batches=batches or [],
            to_write=to_write or [],
            to_verify=to_verify or [],
            cartridges={record.barcode: record for record in cartridges or []},
            avoid=avoid or set(),
            policy=POLICY,
        )

    def test_two_pools_in_parallel(self) -> None:
        """Two copies of one bundle go to two drives and two cartridges at once."""
        plan = self.plan(
            drives=[drive(0), drive(1)],
            to_write=[copy("x", "main"), copy("x", "vault")],
            cartridges=[cartridge("A"), cartridge("B", pool="vault")],
        )
        self.assertEqual(
            {(job.drive, job.barcode) for job in plan.jobs if isinstance(job, DoArchive)},
            {(0, "A"), (1, "B")},
        )

    def test_one_cartridge_never_takes_two_copies(self) -> None:
        """A scratch cartridge is given to one pool only, and never takes the second copy of a bundle."""
        plan = self.plan(
            drives=[drive(0), drive(1)],
            to_write=[copy("x", "main"), copy("x", "vault", others=frozenset({"S"}))],
            cartridges=[cartridge("S", state=CartridgeState.SCRATCH, pool="")],
        )
        self.assertEqual(len(plan.jobs), 1)
        self.assertEqual(plan.starved_pools, ("vault",))

    def test_begun_before_scratch(self) -> None:
        """A cartridge that was begun is filled before a scratch one is taken."""
        plan = self.plan(
            drives=[drive(0)],
            to_write=[copy("x")],
            cartridges=[cartridge("A0", state=CartridgeState.SCRATCH, pool=""), cartridge("B0")],
        )
        self.assertEqual([job.barcode for job in plan.jobs if isinstance(job, DoArchive)], ["B0"])

    def test_room(self) -> None:
        """What does not fit with the reserve is not begun; a pool without room is reported."""
        plan = self.plan(drives=[drive(0)], to_write=[copy("x")], cartridges=[cartridge("A", free=105)])
        self.assertEqual((plan.jobs, plan.starved_pools), ((), ("main",)))

    def test_never_unadmitted(self) -> None:
        """A cartridge that no operator admitted is not written, whatever its room."""
        for state in set(CartridgeState) - TAKES_BUNDLES:
            plan = self.plan(
                drives=[drive(0)], to_write=[copy("x")], cartridges=[cartridge("A", state=state)]
            )
            self.assertEqual(plan.jobs, (), state)

    def test_cut_off_while_formatting(self) -> None:
        """A cartridge whose formatting was cut off is used for the pool that it was begun for, and for no other."""
        begun = [cartridge("A", state=CartridgeState.FORMATTING)]
        plan = self.plan(drives=[drive(0)], to_write=[copy("x")], cartridges=begun)
        self.assertEqual([job.barcode for job in plan.jobs if isinstance(job, DoArchive)], ["A"])
        other = self.plan(drives=[drive(0)], to_write=[copy("x", "vault")], cartridges=begun)
        self.assertEqual((other.jobs, other.starved_pools), ((), ("vault",)))

    def test_large_keeps_no_small_out(self) -> None:
        """A bundle that is larger than any cartridge is named, and those behind it are written."""
        plan = self.plan(
            drives=[drive(0)],
            to_write=[copy("x", size=5000), copy("y"), copy("z", size=895), copy("w")],
            cartridges=[cartridge("A")],
        )
        job = plan.jobs[0]
        assert isinstance(job, DoArchive)
        self.assertEqual([each.bundle_id for each in job.copies], ["y", "w"])
        self.assertEqual([each.bundle_id for each in plan.too_large], ["x"])
        self.assertEqual(plan.starved_pools, ())

    def test_others_wait(self) -> None:
        """The plan says whether there is more work than drives."""
        cartridges = [cartridge("A"), cartridge("B", pool="vault")]
        both = [copy("x"), copy("x", "vault")]
        self.assertTrue(self.plan(drives=[drive(0)], to_write=both, cartridges=cartridges).others_wait)
        self.assertFalse(
            self.plan(drives=[drive(0), drive(1)], to_write=both, cartridges=cartridges).others_wait
        )
        busy = self.plan(drives=[drive(0, busy=True)], batches=[batch("A")], cartridges=cartridges)
        self.assertTrue(busy.others_wait)

    def test_recall_leaves_no_drive_to_archive_alone(self) -> None:
        """With a recall waiting and two drives, archives take one."""
        plan = self.plan(
            drives=[drive(0), drive(1)],
            batches=[batch("R1"), batch("R2")],
            to_write=[copy("x")],
            cartridges=[cartridge("A"), cartridge("R1"), cartridge("R2")],
        )
        self.assertEqual(sum(isinstance(job, DoRecall) for job in plan.jobs), 2)

    def test_single_drive_alternates(self) -> None:
        """A single drive that recalled last archives next, unless an expedited restore waits."""
        facts = {"to_write": [copy("x")], "cartridges": [cartridge("A"), cartridge("R")]}
        ready = [batch("R", tier=Tier.STANDARD, at=-600)]
        self.assertIsInstance(
            self.plan(drives=[drive(0, last=True)], batches=ready, **facts).jobs[0], DoRecall
        )
        self.assertIsInstance(self.plan(drives=[drive(0)], batches=ready, **facts).jobs[0], DoArchive)
        self.assertIsInstance(self.plan(drives=[drive(0)], batches=[batch("R")], **facts).jobs[0], DoRecall)

    def test_hold(self) -> None:
        """A bulk recall waits for company; the plan says until when. A loaded cartridge serves it at once."""
        bulk = [batch("R", tier=Tier.BULK)]
        held = self.plan(drives=[drive(0)], batches=bulk, cartridges=[cartridge("R")])
        self.assertEqual((held.jobs, held.look_again_at), ((), 7200.0))
        served = self.plan(drives=[drive(0, barcode="R")], batches=bulk, cartridges=[cartridge("R")])
        self.assertIsInstance(served.jobs[0], DoRecall)

    def test_urgency(self) -> None:
        """Tiers come in order, but a request beyond its limit outranks the next faster tier."""
        batches = [batch("R1", tier=Tier.STANDARD, at=0), batch("R2", tier=Tier.EXPEDITED, at=19_000)]
        at = self.plan(
            now=19_000,
            drives=[drive(0, last=True)],
            batches=batches,
            cartridges=[cartridge("R1"), cartridge("R2")],
        )
        self.assertEqual([job.batch.barcode for job in at.jobs if isinstance(job, DoRecall)], ["R1"])

    def test_avoids_pairs(self) -> None:
        """A drive and a cartridge that failed together are kept apart."""
        plan = self.plan(
            drives=[drive(0), drive(1)], batches=[batch("R")], cartridges=[cartridge("R")], avoid={(0, "R")}
        )
        self.assertEqual([job.drive for job in plan.jobs], [1])

    def test_busy_cartridge(self) -> None:
        """A cartridge in a busy drive is not given to another drive."""
        plan = self.plan(
            drives=[drive(0, barcode="R", busy=True), drive(1)],
            batches=[batch("R")],
            cartridges=[cartridge("R")],
        )
        self.assertEqual(plan.jobs, ())

    def test_idle_unload(self) -> None:
        """An idle cartridge goes home after a while, and not before."""
        early = self.plan(now=299, drives=[drive(0, barcode="A")], cartridges=[cartridge("A")])
        self.assertEqual((early.jobs, early.look_again_at), ((), 300.0))
        late = self.plan(now=300, drives=[drive(0, barcode="A")], cartridges=[cartridge("A")])
        self.assertEqual(late.jobs, (DoUnload(drive=0, barcode="A"),))

    def test_unverified_copies(self) -> None:
        """Copies that an earlier session left unverified are verified even when nothing is to be written."""
        plan = self.plan(
            drives=[drive(0)],
            to_verify=[CopyToVerify(bundle_id="x", pool="main", barcode="A")],
            cartridges=[cartridge("A", state=CartridgeState.FULL)],
        )
        self.assertEqual(
            [(job.copies, len(job.verify)) for job in plan.jobs if isinstance(job, DoArchive)], [((), 1)]
        )

    def test_session_bound(self) -> None:
        """One session takes at most its bytes."""
        plan = self.plan(
            drives=[drive(0)],
            to_write=[copy(f"x{number}", size=400) for number in range(4)],
            cartridges=[replace(cartridge("A", free=10_000), capacity_bytes=10_000)],
        )
        job = plan.jobs[0]
        assert isinstance(job, DoArchive)
        self.assertEqual(len(job.copies), 2)


class BatchTests(SynchronousTestCase):
    """``plan_batches``."""

    def test_few_cartridges(self) -> None:
        """Requests that share a cartridge are served from it, though each has a copy elsewhere."""
        plan = plan_batches(
            [wanted(1, "A", "M"), wanted(2, "B", "M"), wanted(3, "C", "M")],
            readable={"A", "B", "C", "M"},
            loaded=(),
        )
        self.assertEqual([(b.barcode, len(b.items)) for b in plan.batches], [("M", 3)])

    def test_loaded_first(self) -> None:
        """A cartridge that is in a drive is preferred."""
        plan = plan_batches([wanted(1, "A", "B")], readable={"A", "B"}, loaded={"B"})
        self.assertEqual(plan.batches[0].barcode, "B")

    def test_order_on_tape(self) -> None:
        """A batch is read from front to back."""
        plan = plan_batches([wanted(1, "A", block=9), wanted(2, "A", block=3)], readable={"A"}, loaded=())
        self.assertEqual([item.version_uid for item in plan.batches[0].items], [2, 1])

    def test_failed_copies_last(self) -> None:
        """A copy that failed is read again only when the others failed as often, wherever it is."""
        item = wanted(1, "A", "B")
        bad, good = replace(item.sources[0], failures=1), item.sources[1]
        plan = plan_batches([replace(item, sources=(bad, good))], readable={"A", "B"}, loaded={"A"})
        self.assertEqual(plan.batches[0].barcode, "B")

    def test_unreachable(self) -> None:
        """What has no readable cartridge is reported, not forgotten."""
        plan = plan_batches([wanted(1, "A")], readable=set(), loaded=())
        self.assertEqual([item.version_uid for item in plan.unreachable], [1])
