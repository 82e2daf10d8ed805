"""What idle drives are given to do."""

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from coldstore.model.cartridges import Cartridge, CartridgeState
from coldstore.model.objects import Tier
from coldstore.plan.homes import TAKES_BUNDLES, next_copy
from coldstore.plan.jobs import (
    CopyToVerify,
    CopyToWrite,
    DoArchive,
    DoRecall,
    DoUnload,
    DriveView,
    Job,
    MountPolicy,
    TierPolicy,
)
from coldstore.plan.mount import DrivePlan, plan_drain, plan_drives
from coldstore.plan.recall import Batch, Source, Wanted, plan_batches
from coldstore.plan.turns import Share, engaged, is_turn_of_archives, shares

POLICY = MountPolicy(
    tiers={
        Tier.EXPEDITED: TierPolicy(hold_seconds=0, enough_bytes=1, enough_items=1, limit_seconds=300),
        Tier.STANDARD: TierPolicy(hold_seconds=600, enough_bytes=1000, enough_items=50, limit_seconds=18_000),
        Tier.BULK: TierPolicy(hold_seconds=7200, enough_bytes=1000, enough_items=50, limit_seconds=43_200),
    },
    archive_share=0.5,
    idle_unload_seconds=300,
    another_drive_bytes=1000,
    another_drive_fraction=0.3,
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
    up: bool = True,
    leaving: bool = False,
    job: Job | None = None,
    idle_since: float = 0.0,
    held_since: float = 0.0,
    last: bool = False,
) -> DriveView:
    return DriveView(
        index=index,
        is_up=up,
        is_busy=busy or job is not None,
        barcode=barcode if job is None else job.barcode,
        job=job,
        idle_since=idle_since,
        held_since=held_since,
        last_was_archive=last,
        is_leaving=leaving,
    )


def archiving(
    index: int, barcode: str, pool: str = "main", *, since: float = 0.0, owed: bool = False
) -> DriveView:
    """A drive that writes."""
    job = DoArchive(
        drive=index, barcode=barcode, pool=pool, size_bytes=500, room_bytes=500, verify=(), is_owed=owed
    )
    return drive(index, job=job, held_since=since)


def recalling(
    index: int, barcode: str, *, tier: Tier = Tier.STANDARD, at: float = 0.0, since: float = 0.0
) -> DriveView:
    """A drive that recalls."""
    return drive(index, job=DoRecall(drive=index, batch=batch(barcode, tier=tier, at=at)), held_since=since)


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


class PlanCase(SynchronousTestCase):
    """Plans made of few facts."""

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
        archives_wait_since: float | None = None,
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
            archives_wait_since=archives_wait_since,
        )

    def archives(self, plan: DrivePlan) -> list[tuple[int, str, str]]:
        """Drive, cartridge and pool of each archive that a plan begins."""
        return sorted((job.drive, job.barcode, job.pool) for job in plan.jobs if isinstance(job, DoArchive))

    def recalls(self, plan: DrivePlan) -> list[tuple[int, str]]:
        """Drive and cartridge of each recall that a plan begins, in the plan's order."""
        return [(job.drive, job.barcode) for job in plan.jobs if isinstance(job, DoRecall)]


class MountTests(PlanCase):
    """What drives get."""

    # Copies and cartridges.

    def test_two_pools_in_parallel(self) -> None:
        """Two copies of one bundle go to two drives and two cartridges at once."""
        plan = self.plan(
            drives=[drive(0), drive(1)],
            to_write=[copy("x", "main"), copy("x", "vault")],
            cartridges=[cartridge("A"), cartridge("B", pool="vault")],
        )
        self.assertEqual(self.archives(plan), [(0, "A", "main"), (1, "B", "vault")])

    def test_pools_take_turns(self) -> None:
        """With one drive the pool goes first whose oldest copy has waited longer, whatever its name."""
        plan = self.plan(
            drives=[drive(0)],
            to_write=[copy("2", "main"), copy("3", "main"), copy("1", "vault")],
            cartridges=[cartridge("A"), cartridge("B", pool="vault")],
        )
        self.assertEqual(self.archives(plan), [(0, "B", "vault")])
        self.assertTrue(plan.jobs)

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
        """A cartridge that was begun is filled before a scratch one is taken, one with copies to verify before others."""
        begun = [cartridge("A0", state=CartridgeState.SCRATCH, pool=""), cartridge("B0"), cartridge("C0")]
        plan = self.plan(drives=[drive(0)], to_write=[copy("x")], cartridges=begun)
        self.assertEqual(self.archives(plan), [(0, "B0", "main")])
        pending = CopyToVerify(bundle_id="w", pool="main", barcode="C0")
        plan = self.plan(drives=[drive(0)], to_write=[copy("x")], to_verify=[pending], cartridges=begun)
        (job,) = plan.jobs
        assert isinstance(job, DoArchive)
        self.assertEqual((job.barcode, job.size_bytes, job.verify), ("C0", 100, (pending,)))

    def test_room(self) -> None:
        """What does not fit with the reserve is not begun; a pool without room is reported."""
        plan = self.plan(drives=[drive(0)], to_write=[copy("x")], cartridges=[cartridge("A", free=105)])
        self.assertEqual((plan.jobs, plan.starved_pools), ((), ("main",)))

    def test_oldest_decides(self) -> None:
        """The oldest copy decides which cartridge is mounted: a stream of small ones does not keep a large one waiting."""
        plan = self.plan(
            drives=[drive(0, barcode="A")],
            to_write=[copy("1", size=500), copy("2", size=10)],
            cartridges=[cartridge("A", free=100), cartridge("B")],
        )
        self.assertEqual(self.archives(plan), [(0, "B", "main")])

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
        self.assertEqual(self.archives(plan), [(0, "A", "main")])
        other = self.plan(drives=[drive(0)], to_write=[copy("x", "vault")], cartridges=begun)
        self.assertEqual((other.jobs, other.starved_pools), ((), ("vault",)))

    def test_next_copy(self) -> None:
        """A session takes the first copy that fits: a larger one, or one whose bundle is there already, does not stop it."""
        copies = [copy("x", size=5000), copy("y", others=frozenset({"A"})), copy("z", size=400), copy("w")]
        taken = next_copy(copies, barcode="A", room_bytes=500)
        assert taken is not None
        self.assertEqual(taken.bundle_id, "z")
        self.assertIsNone(next_copy(copies, barcode="A", room_bytes=50))

    def test_large_keeps_no_small_out(self) -> None:
        """A bundle that is larger than any cartridge is named, and those behind it are written."""
        plan = self.plan(
            drives=[drive(0)], to_write=[copy("x", size=5000), copy("y")], cartridges=[cartridge("A")]
        )
        self.assertEqual(self.archives(plan), [(0, "A", "main")])
        self.assertEqual([each.bundle_id for each in plan.too_large], ["x"])
        self.assertEqual(plan.starved_pools, ())

    def test_session_bound(self) -> None:
        """A session writes no more than what waits when it begins, nor than its bound, before it verifies."""
        large = [replace(cartridge("A", free=10_000), capacity_bytes=10_000)]
        for count, size in ((2, 800), (4, 1000)):
            copies = [copy(f"x{number}", size=400) for number in range(count)]
            plan = self.plan(drives=[drive(0)], to_write=copies, cartridges=large)
            job = plan.jobs[0]
            assert isinstance(job, DoArchive)
            self.assertEqual((job.size_bytes, job.room_bytes), (size, 9990))

    def test_unverified_copies(self) -> None:
        """Copies that an earlier session left unverified are verified even when nothing is to be written."""
        plan = self.plan(
            drives=[drive(0)],
            to_verify=[CopyToVerify(bundle_id="x", pool="main", barcode="A")],
            cartridges=[cartridge("A", state=CartridgeState.FULL)],
        )
        self.assertEqual(
            [(job.size_bytes, len(job.verify)) for job in plan.jobs if isinstance(job, DoArchive)], [(0, 1)]
        )

    def test_oldest_to_verify_first(self) -> None:
        """Copies to verify that are older than all that is to be written are not kept waiting by it."""
        plan = self.plan(
            drives=[drive(0)],
            to_write=[copy("2")],
            to_verify=[CopyToVerify(bundle_id="1", pool="vault", barcode="V")],
            cartridges=[cartridge("A"), cartridge("V", state=CartridgeState.FULL, pool="vault")],
        )
        self.assertEqual(self.archives(plan), [(0, "V", "vault")])

    # How many drives write a pool.

    def test_small_backlog(self) -> None:
        """A handful of small bundles mounts one cartridge, however many drives are idle."""
        plan = self.plan(
            drives=[drive(index) for index in range(4)],
            to_write=[copy(f"x{number}", size=50) for number in range(9)],
            cartridges=[cartridge(barcode) for barcode in "ABCD"],
        )
        self.assertEqual(self.archives(plan), [(0, "A", "main")])

    def test_large_backlog(self) -> None:
        """A pool gets one more drive for every 300 bytes (0.3 of a cartridge) that wait."""
        for size, count in ((50, 1), (140, 2), (150, 3), (170, 3), (200, 4)):
            plan = self.plan(
                drives=[drive(index) for index in range(4)],
                to_write=[copy(f"x{number}", size=size) for number in range(6)],
                cartridges=[cartridge(barcode) for barcode in "ABCDE"],
            )
            self.assertEqual(len(self.archives(plan)), count, size)
            self.assertEqual(len({barcode for _, barcode, _ in self.archives(plan)}), count)

    def test_one_bundle_one_drive(self) -> None:
        """A single bundle is one drive's, however large it is."""
        plan = self.plan(
            drives=[drive(0), drive(1)],
            to_write=[copy("x", size=900)],
            cartridges=[cartridge("A"), cartridge("B")],
        )
        self.assertEqual(self.archives(plan), [(0, "A", "main")])

    def test_helper_comes_later(self) -> None:
        """A drive that becomes free helps a pool that is written already, when enough waits; else it stays idle."""
        cartridges = [cartridge("A"), cartridge("B")]
        for count, expected in ((5, []), (6, [(1, "B", "main")])):
            plan = self.plan(
                drives=[archiving(0, "A"), drive(1)],
                to_write=[copy(f"x{number}") for number in range(count)],
                cartridges=cartridges,
            )
            self.assertEqual(self.archives(plan), expected)

    def test_mounted_ones_help(self) -> None:
        """A cartridge of the pool that lies in a drive takes a part of whatever waits: it costs no mount."""
        plan = self.plan(
            drives=[drive(0, barcode="A"), drive(1, barcode="B"), drive(2, barcode="C"), drive(3)],
            to_write=[copy("x", size=10), copy("y", size=10)],
            cartridges=[cartridge(barcode) for barcode in "ABCD"],
        )
        self.assertEqual(self.archives(plan), [(0, "A", "main"), (1, "B", "main")])

    def test_every_pool_before_helpers(self) -> None:
        """Each pool gets its first drive before any gets its second."""
        plan = self.plan(
            drives=[drive(0), drive(1), drive(2)],
            to_write=[copy(f"x{number}") for number in range(9)] + [copy("y", "vault")],
            cartridges=[cartridge("A"), cartridge("B"), cartridge("V", pool="vault")],
        )
        self.assertEqual(self.archives(plan), [(0, "A", "main"), (1, "V", "vault"), (2, "B", "main")])

    # Drives that are down.

    def test_stuck_pool(self) -> None:
        """A pool that has room only on cartridges in drives that are down is reported, and not as one without room."""
        plan = self.plan(
            drives=[drive(0, barcode="A", up=False), drive(1)],
            to_write=[copy("x")],
            cartridges=[cartridge("A")],
        )
        self.assertEqual((plan.jobs, plan.stuck_pools, plan.starved_pools), ((), ("main",), ()))

    def test_put_down(self) -> None:
        """A drive that is put down gives way, its pool gets another at once, and its cartridge is put away."""
        leaving = replace(archiving(0, "A"), is_up=False, is_leaving=True)
        plan = self.plan(
            drives=[leaving, drive(1)], to_write=[copy("x")], cartridges=[cartridge("A"), cartridge("B")]
        )
        self.assertEqual(self.archives(plan), [(1, "B", "main")])
        self.assertEqual(plan.give_way, {0})
        idle = drive(0, barcode="A", up=False, leaving=True)
        away = self.plan(drives=[idle, drive(1)], to_write=[copy("x")], cartridges=[cartridge("A")])
        self.assertEqual(away.jobs, (DoUnload(drive=0, barcode="A"),))
        self.assertEqual(away.stuck_pools, ())
        self.assertEqual(plan_drain([idle]), [DoUnload(drive=0, barcode="A")])

    # Recalls.

    def test_hold(self) -> None:
        """A bulk recall waits for company; the plan says until when. A loaded cartridge serves it at once."""
        bulk = [batch("R", tier=Tier.BULK)]
        held = self.plan(drives=[drive(0)], batches=bulk, cartridges=[cartridge("R")])
        self.assertEqual((held.jobs, held.look_again_at), ((), 7200.0))
        served = self.plan(drives=[drive(0, barcode="R")], batches=bulk, cartridges=[cartridge("R")])
        self.assertIsInstance(served.jobs[0], DoRecall)

    def test_hold_while_idle(self) -> None:
        """A standard recall waits for company only while no drive is idle, and not before archives."""
        standard = [batch("R", tier=Tier.STANDARD)]
        records = [cartridge("R", state=CartridgeState.FULL), cartridge("A")]
        alone = self.plan(drives=[drive(0)], batches=standard, cartridges=records)
        self.assertEqual(self.recalls(alone), [(0, "R")])
        busy = self.plan(drives=[archiving(0, "A")], batches=standard, cartridges=records)
        self.assertEqual((busy.jobs, busy.give_way, busy.look_again_at), ((), frozenset(), 600.0))
        both = self.plan(drives=[drive(0)], batches=standard, to_write=[copy("x")], cartridges=records)
        self.assertEqual(self.archives(both), [(0, "A", "main")])

    def test_urgency(self) -> None:
        """Tiers come in order, but a request beyond its limit outranks the next faster tier."""
        batches = [batch("R1", tier=Tier.STANDARD, at=0), batch("R2", tier=Tier.EXPEDITED, at=19_000)]
        at = self.plan(now=19_000, drives=[drive(0)], batches=batches, cartridges=[])
        self.assertEqual(self.recalls(at), [(0, "R1")])

    def test_nothing_waits_for_ever(self) -> None:
        """A bulk request that waited for twice its limit goes before expedited ones."""
        batches = [batch("R1", tier=Tier.BULK, at=0), batch("R2", tier=Tier.EXPEDITED, at=86_400)]
        for now, first in ((86_399, "R2"), (86_400, "R1")):
            plan = self.plan(now=now, drives=[drive(0)], batches=batches, cartridges=[])
            self.assertEqual(self.recalls(plan)[:1], [(0, first)])

    def test_rank_rises_in_time(self) -> None:
        """The plan says when a batch that waits for a drive will be ranked faster: it may have one give way then."""
        waiting = [batch("R", tier=Tier.STANDARD, at=-16_000)]
        at_work = [recalling(0, "E", tier=Tier.EXPEDITED, at=1990.0, since=-4000.0)]
        before = self.plan(now=1999.0, drives=at_work, batches=waiting)
        self.assertEqual((before.give_way, before.look_again_at), (frozenset(), 2000.0))
        self.assertEqual(self.plan(now=2000.0, drives=at_work, batches=waiting).give_way, {0})
        fastest = [batch("R", tier=Tier.STANDARD, at=-99_000)]
        self.assertIsNone(self.plan(now=1999.0, drives=at_work, batches=fastest).look_again_at)

    def test_mounted_serves_all_tiers(self) -> None:
        """What lies in a drive is served before slower mounts, until it has had its time; an expedited one goes before it."""
        bulk, standard = batch("R1", tier=Tier.BULK), batch("R2", tier=Tier.STANDARD, at=-600)
        for held_since, now, first in ((0, 3599, "R1"), (0, 3600, "R2")):
            plan = self.plan(
                now=now,
                drives=[drive(0, barcode="R1", held_since=held_since)],
                batches=[bulk, standard],
                cartridges=[],
            )
            self.assertEqual(self.recalls(plan), [(0, first)], now)
        urgent = self.plan(drives=[drive(0, barcode="R1")], batches=[bulk, batch("R2")], cartridges=[])
        self.assertEqual(self.recalls(urgent), [(0, "R2")])

    def test_wanted_cartridges_stay(self) -> None:
        """A drive whose cartridge is wanted is not the one that is emptied for another."""
        plan = self.plan(
            drives=[drive(0, barcode="R1"), drive(1, barcode="Z", idle_since=10)],
            batches=[batch("R2"), batch("R1", tier=Tier.BULK)],
            cartridges=[],
        )
        self.assertEqual(sorted(self.recalls(plan)), [(0, "R1"), (1, "R2")])

    def test_avoids_pairs(self) -> None:
        """A drive and a cartridge that failed together are kept apart."""
        plan = self.plan(
            drives=[drive(0), drive(1)], batches=[batch("R")], cartridges=[cartridge("R")], avoid={(0, "R")}
        )
        self.assertEqual([job.drive for job in plan.jobs], [1])
        there = self.plan(
            drives=[drive(0, barcode="R"), drive(1)], batches=[batch("R")], cartridges=[], avoid={(0, "R")}
        )
        self.assertEqual(there.jobs, ())

    def test_busy_cartridge(self) -> None:
        """A cartridge in a busy drive is not given to another drive."""
        plan = self.plan(
            drives=[drive(0, barcode="R", busy=True), drive(1)],
            batches=[batch("R")],
            cartridges=[cartridge("R")],
        )
        self.assertEqual((plan.jobs, plan.give_way), ((), frozenset()))

    def test_idle_unload(self) -> None:
        """An idle cartridge goes home after a while, and not before."""
        early = self.plan(now=299, drives=[drive(0, barcode="A")], cartridges=[cartridge("A")])
        self.assertEqual((early.jobs, early.look_again_at), ((), 300.0))
        late = self.plan(now=300, drives=[drive(0, barcode="A")], cartridges=[cartridge("A")])
        self.assertEqual(late.jobs, (DoUnload(drive=0, barcode="A"),))


class TurnTests(PlanCase):
    """How archives and recalls share drives."""

    records = [cartridge("A"), cartridge("V", pool="vault")]

    def test_shares(self) -> None:
        """Each gets its part of the drives, one at least; a single drive is for both."""
        for usable, part, archives, recalls in (
            (1, 0.5, 1, 1), (2, 0.5, 1, 1), (2, 1.0, 1, 1), (3, 0.5, 1, 2), (4, 0.5, 2, 2), (4, 0.0, 1, 3),
            (4, 1.0, 3, 1), (8, 0.25, 2, 6),
        ):  # fmt: skip
            self.assertEqual(shares(usable, part), Share(archives=archives, recalls=recalls))

    def test_proportion(self) -> None:
        """The next drive goes to whom the proportion gives it; at equal parts to recalls, for which somebody waits."""
        share = Share(archives=1, recalls=3)
        for archives, recalls, expected in (
            (0, 0, False),
            (0, 1, True),
            (1, 1, False),
            (1, 3, False),
            (1, 4, True),
        ):
            answer = is_turn_of_archives(archives=archives, recalls=recalls, share=share)
            self.assertEqual(answer, expected, (archives, recalls))

    def test_half_and_half(self) -> None:
        """Of four drives two archive and two recall; what one of them has no work for, the other takes."""
        waiting = [copy(f"x{number}", size=300) for number in range(9)]
        cartridges = [cartridge(barcode) for barcode in "ABCDEFGH"]
        for batch_count, copy_count, archives, recalls in (
            (9, 9, 2, 2),
            (1, 9, 3, 1),
            (9, 1, 1, 3),
            (9, 0, 0, 4),
        ):
            plan = self.plan(
                drives=[drive(index) for index in range(4)],
                batches=[batch(f"R{number}", tier=Tier.STANDARD, at=-600) for number in range(batch_count)],
                to_write=waiting[:copy_count],
                cartridges=cartridges,
            )
            self.assertEqual((len(self.archives(plan)), len(self.recalls(plan))), (archives, recalls))

    def test_last_free_drive(self) -> None:
        """With two drives the one that becomes free goes to whom has none, except for an expedited recall."""
        facts = {"to_write": [copy("x")], "cartridges": self.records}
        drives = [recalling(0, "R1"), drive(1)]
        slow = self.plan(drives=drives, batches=[batch("R2", tier=Tier.STANDARD, at=-600)], **facts)
        self.assertEqual(self.archives(slow), [(1, "A", "main")])
        fast = self.plan(drives=drives, batches=[batch("R2")], **facts)
        self.assertEqual(self.recalls(fast), [(1, "R2")])

    def test_single_drive(self) -> None:
        """A single drive recalls until archives have waited for the longest hold."""
        facts = {"to_write": [copy("x")], "cartridges": [cartridge("A")]}
        ready = [batch("R", tier=Tier.STANDARD, at=-600)]
        for now, kind in ((3599, DoRecall), (3600, DoArchive)):
            plan = self.plan(now=now, drives=[drive(0)], batches=ready, archives_wait_since=0.0, **facts)
            self.assertIsInstance(plan.jobs[0], kind)

    def test_same_cartridge_alternates(self) -> None:
        """What is wanted from a cartridge that was just written is read before it is written on, and the other way round."""
        facts = {"to_write": [copy("x")], "cartridges": self.records}
        ready = [batch("A", tier=Tier.STANDARD, at=-600)]
        written = [recalling(1, "R"), drive(0, barcode="A", last=True)]
        self.assertEqual(self.recalls(self.plan(drives=written, batches=ready, **facts)), [(0, "A")])
        read = [archiving(1, "V", "vault"), drive(0, barcode="A")]
        self.assertEqual(self.archives(self.plan(drives=read, batches=ready, **facts)), [(0, "A", "main")])

    def test_archives_give_way_to_first_recall(self) -> None:
        """When archives have all of several drives, one gives way at once to a recall that waits: the one that is there longest."""
        ready = [batch(f"R{number}", tier=Tier.STANDARD, at=-600) for number in range(3)]
        plan = self.plan(
            drives=[archiving(0, "A", since=-5), archiving(1, "V", "vault", since=-9)], batches=ready
        )
        self.assertEqual((plan.jobs, plan.give_way), ((), {1}))
        alone = self.plan(drives=[archiving(0, "A", since=-5)], batches=ready)
        self.assertEqual((alone.give_way, alone.look_again_at), (frozenset(), 3595.0))

    def test_share_in_time(self) -> None:
        """A drive beyond the share of its kind gives way when it has had its time; the plan says when that is."""
        ready = [batch(f"R{number}", tier=Tier.STANDARD, at=-600) for number in range(3)]
        many = [
            archiving(0, "A", since=0),
            archiving(1, "B", since=100),
            archiving(2, "C", since=200),
            recalling(3, "R9", at=-700),
        ]
        early = self.plan(now=3599, drives=many, batches=ready)
        self.assertEqual((early.give_way, early.look_again_at), (frozenset(), 3600.0))
        self.assertEqual(self.plan(now=3600, drives=many, batches=ready).give_way, {0})
        # The other two are the archives' share.
        self.assertEqual(self.plan(now=9000, drives=many, batches=ready).give_way, {0})

    def test_recalls_give_way_to_archives(self) -> None:
        """Archives without a drive get one from the recalls when that has had its time."""
        drives = [recalling(0, "R0", since=100), recalling(1, "R1", since=0)]
        facts = {"to_write": [copy("x")], "cartridges": self.records}
        early = self.plan(now=3599, drives=drives, **facts)
        self.assertEqual((early.give_way, early.do_archives_wait), (frozenset(), True))
        self.assertEqual(self.plan(now=3600, drives=drives, **facts).give_way, {1})
        self.assertEqual(self.plan(now=9000, drives=drives, **facts).give_way, {1})

    def test_nobody_gives_way_for_nothing(self) -> None:
        """Without others that could use its drive, a session goes on as long as it likes."""
        drives = [archiving(0, "A"), recalling(1, "R1")]
        self.assertEqual(self.plan(now=90_000, drives=drives).give_way, frozenset())
        full = self.plan(now=90_000, drives=drives, to_write=[copy("x")], cartridges=[cartridge("A")])
        self.assertEqual(full.give_way, frozenset())

    def test_more_urgent_recall(self) -> None:
        """A recall that has had its time gives way to a more urgent one, not to a later one of its tier."""
        drives = [archiving(0, "A"), recalling(1, "R1", at=0)]
        for tier, at, expected in (
            (Tier.STANDARD, -1.0, {1}),
            (Tier.STANDARD, 1.0, set()),
            (Tier.BULK, -9000.0, set()),
        ):
            plan = self.plan(now=4000, drives=drives, batches=[batch("R2", tier=tier, at=at)])
            self.assertEqual(plan.give_way, expected, (tier, at))

    def test_expedited_interrupts(self) -> None:
        """An expedited recall gets a drive at the next boundary: an archive's, else the least urgent recall's, else none."""
        urgent = [batch("R9")]
        drives = [recalling(0, "R0", tier=Tier.BULK), archiving(1, "A"), archiving(2, "B", since=-1)]
        self.assertEqual(self.plan(drives=drives, batches=urgent).give_way, {2})
        both = self.plan(drives=drives, batches=[*urgent, batch("R8")])
        self.assertEqual(both.give_way, {1, 2})
        recalls = [
            recalling(0, "R0"),
            recalling(1, "R1", tier=Tier.BULK),
            recalling(2, "R2", tier=Tier.EXPEDITED),
        ]
        self.assertEqual(self.plan(drives=recalls, batches=urgent).give_way, {1})
        self.assertEqual(self.plan(drives=recalls[2:], batches=urgent).give_way, frozenset())

    def test_expedited_from_a_written_cartridge(self) -> None:
        """An expedited recall from a cartridge that is in use ends that session and no other."""
        drives = [archiving(0, "A"), archiving(1, "V", "vault", since=-9), recalling(2, "R")]
        self.assertEqual(self.plan(drives=drives, batches=[batch("A")]).give_way, {0})
        self.assertEqual(self.plan(drives=drives, batches=[batch("R")]).give_way, {2})

    def test_owed(self) -> None:
        """Archives that were kept waiting go before expedited recalls, and are not interrupted before their time is over."""
        facts = {"to_write": [copy("x")], "cartridges": self.records, "batches": [batch("R9")]}
        for since, kind in ((1.0, DoRecall), (0.0, DoArchive)):
            plan = self.plan(now=3600, drives=[drive(0)], archives_wait_since=since, **facts)
            self.assertIsInstance(plan.jobs[0], kind)
        self.assertTrue(plan.jobs[0].is_owed)
        for now, expected in ((3599, set()), (3600, {0})):
            at_work = self.plan(now=now, drives=[archiving(0, "A", owed=True)], **facts)
            self.assertEqual(at_work.give_way, expected)

    def test_one_pool_gives_way_to_another(self) -> None:
        """A pool that has had its time gives its drive to one that has none."""
        drives = [archiving(0, "A"), recalling(1, "R", since=3600)]
        facts = {"to_write": [copy("x"), copy("y", "vault")], "cartridges": self.records}
        self.assertEqual(self.plan(now=3599, drives=drives, **facts).give_way, frozenset())
        self.assertEqual(self.plan(now=3600, drives=drives, **facts).give_way, {0})

    def test_verifying_what_is_recalled(self) -> None:
        """Copies to verify on a cartridge that is recalled wait until that has had its time."""
        facts = {
            "to_verify": [CopyToVerify(bundle_id="x", pool="main", barcode="A")],
            "cartridges": self.records,
        }
        drives = [recalling(0, "A"), drive(1)]
        self.assertEqual(self.plan(now=3599, drives=drives, **facts).give_way, frozenset())
        self.assertEqual(self.plan(now=3600, drives=drives, **facts).give_way, {0})

    def test_engaged(self) -> None:
        """While a drive is idle other copies are read than those on cartridges that are written, or recalled for long."""
        at_work = [archiving(0, "A"), recalling(1, "R1", since=0), recalling(2, "R2", since=50)]
        leaving = drive(3, barcode="L", up=False, leaving=True)
        self.assertEqual(engaged([*at_work, leaving], 3600, POLICY), {"L"})
        self.assertEqual(engaged([*at_work, leaving, drive(4)], 3600, POLICY), {"L", "A", "R1"})

    def test_on_its_way_out(self) -> None:
        """What is being put away, for itself or for another cartridge, may take hours to come out: another copy is read."""
        unloading = drive(0, job=DoUnload(drive=0, barcode="U"))
        swapping = replace(recalling(1, "R"), barcode="S")
        empty = replace(recalling(2, "Q"), barcode=None)
        self.assertEqual(engaged([unloading, swapping, empty, drive(3, barcode="I")], 0, POLICY), {"U", "S"})
        items = [wanted(1, "U", "V")]
        plan = plan_batches(items, readable={"U", "V"}, loaded={"U"}, engaged=engaged([unloading], 0, POLICY))
        self.assertEqual([batch.barcode for batch in plan.batches], ["V"])


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

    def test_engaged(self) -> None:
        """A cartridge that others use is left to them when another copy can be read, and waited for when there is none."""
        items = [wanted(1, "A", "B"), wanted(2, "A")]
        plan = plan_batches(items, readable={"A", "B"}, loaded={"A"}, engaged={"A"})
        self.assertEqual([(b.barcode, len(b.items)) for b in plan.batches], [("B", 1), ("A", 1)])

    def test_failed_copies_last(self) -> None:
        """A copy that failed is read again only when the others failed as often, wherever it is."""
        item = wanted(1, "A", "B")
        bad, good = replace(item.sources[0], failures=1), item.sources[1]
        plan = plan_batches([replace(item, sources=(bad, good))], readable={"A", "B"}, loaded={"A"})
        self.assertEqual(plan.batches[0].barcode, "B")

    def test_doubtful_copies(self) -> None:
        """A copy on a suspect cartridge is read when the others have failed more often, even when it is in a drive."""
        item = wanted(1, "A", "B")
        bad, good = replace(item.sources[0], is_doubtful=True), item.sources[1]
        for failures, expected in ((0, "B"), (1, "A")):
            sources = (bad, replace(good, failures=failures))
            plan = plan_batches([replace(item, sources=sources)], readable={"A", "B"}, loaded={"A"})
            self.assertEqual([batch.barcode for batch in plan.batches], [expected])

    def test_unreachable(self) -> None:
        """What has no readable cartridge is reported, not forgotten."""
        plan = plan_batches([wanted(1, "A")], readable=set(), loaded=())
        self.assertEqual([item.version_uid for item in plan.unreachable], [1])
