"""Contents of bundles made ready ahead of the drives: the right bytes, shared, bounded, and never needed."""

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from coldstore.interfaces.mover import DestinationFault, Woven
from coldstore.interfaces.staging import DiskFault
from coldstore.model.bundles import Bundle, BundleState
from coldstore.model.errors import StagingFull
from coldstore.model.objects import ObjectVersion
from coldstore.ontape.bundle import Literal
from coldstore.work.content import all_members, layout_of
from coldstore.work.contents import Contents, Loan
from tests.unit.work_rig import Run, World, now_of


def frozen(world: World, run: Run) -> list[Bundle]:
    """Pack what waits; return the bundles."""
    run.packer.hurry()
    now_of(Deferred.fromCoroutine(run.packer.one_round()))
    return now_of(world.store.bundles(states=[BundleState.FROZEN], settled=None, after="", limit=100))


def of(contents: Contents, bundle: Bundle) -> Loan:
    """Borrow a content."""
    return now_of(Deferred.fromCoroutine(contents.of(bundle)))


class ContentsTests(SynchronousTestCase):
    """One world with a packer and no drives at work."""

    def setUp(self) -> None:
        """Make it."""
        self.world = World()
        self.run_ = Run(self.world, members_max=3)
        self.contents = self.run_.contents

    def put(self, *sizes: int) -> list[ObjectVersion]:
        """Have objects arrive."""
        first = len(self.world.contents)
        return [self.world.put(f"k{first + number}", size) for number, size in enumerate(sizes)]

    def pins(self) -> int:
        """How many pieces are held in place."""
        return len(self.world.staging._pins)

    def written(self, loan: Loan) -> bytes:
        """What a mover makes of a content."""
        (woven,) = loan.pieces()
        assert isinstance(woven, Woven)
        own = self.world.staging.content(woven.path, 0, woven.size_bytes)
        content, at = b"", 0
        for length, found in zip(woven.own_lengths, woven.ranges(), strict=True):
            content += own[at : at + length]
            content += self.world.staging.content(found.path, found.offset_bytes, found.length_bytes)
            at += length
        return content + own[at:]

    def recorded(self, bundle: Bundle) -> bytes:
        """What the record says of the same bundle."""
        members = now_of(Deferred.fromCoroutine(all_members(self.world.store, bundle.bundle_id)))
        layout = layout_of(self.world.store, bundle, members)
        return b"".join(
            piece.data
            if isinstance(piece, Literal)
            else self.world.contents[members[piece.position].version.version_uid]
            for piece in layout.pieces()
        )

    def test_same_bytes(self) -> None:
        """What was made when the bundle was frozen, and what is made later, are what the record says."""
        self.put(1, 5000, 0, 300_000, 0, 512)
        bundles = frozen(self.world, self.run_)
        self.assertEqual([bundle.member_count for bundle in bundles], [3, 3])
        later = Contents(store=self.world.store, staging=self.world.staging)
        for bundle in bundles:
            expected = self.recorded(bundle)
            self.assertEqual(len(expected), bundle.size_bytes)
            for contents in (self.contents, later):
                loan = of(contents, bundle)
                self.assertEqual(self.written(loan), expected)
                loan.close()

    def test_shared(self) -> None:
        """It is made once, for both copies; with the second one it goes."""
        self.put(1, 2)
        (bundle,) = frozen(self.world, self.run_)
        self.assertEqual((len(self.world.staging.scratches), self.pins()), (1, 2))
        first, second = of(self.contents, bundle), of(self.contents, bundle)
        self.assertEqual((len(self.world.staging.scratches), self.pins()), (1, 2))
        first.close()
        self.assertEqual(len(self.world.staging.scratches), 1)
        for _ in range(2):
            second.close()
        self.assertEqual((len(self.world.staging.scratches), self.pins()), (0, 0))

    def test_forgotten(self) -> None:
        """What is forgotten goes, but not while somebody writes it; then it is made anew for the next."""
        self.put(1)
        (bundle,) = frozen(self.world, self.run_)
        loan = of(self.contents, bundle)
        self.contents.forget(bundle.bundle_id)
        self.assertEqual(self.pins(), 1)
        other = of(self.contents, bundle)
        self.assertEqual(len(self.world.staging.scratches), 2)
        loan.close()
        self.assertEqual(len(self.world.staging.scratches), 1)
        self.assertEqual(self.written(other), self.recorded(bundle))
        other.close()
        self.contents.forget(bundle.bundle_id)
        self.contents.forget("unknown")
        self.assertEqual((len(self.world.staging.scratches), self.pins()), (0, 0))

    def kept(self, bundles: Sequence[Bundle], contents: Contents) -> list[int]:
        """Which bundles are kept."""
        return [number for number, bundle in enumerate(bundles) if bundle.bundle_id in contents._kept]

    def test_bounded(self) -> None:
        """No more is kept than there is room for; what is written first is what is kept, and is followed by what comes next."""
        self.put(*[1] * 12)
        bundles = frozen(self.world, self.run_)
        now_of(Deferred.fromCoroutine(self.contents.close()))
        self.assertEqual((len(self.world.staging.scratches), self.pins()), (0, 0))
        contents = Contents(store=self.world.store, staging=self.world.staging, kept_bundles=2)
        contents.expect(bundle.bundle_id for bundle in bundles)
        self.assertEqual(self.kept(bundles, contents), [0, 1])
        for loan in [of(contents, bundles[0]), of(contents, bundles[0])]:
            self.assertEqual(self.kept(bundles, contents), [0, 1])
            loan.close()
        self.assertEqual(self.kept(bundles, contents), [1, 2])
        # Out of turn: it is made, and the one that is written last gives way.
        last = of(contents, bundles[3])
        self.assertEqual(self.kept(bundles, contents), [1, 3])
        last.close()
        # One that waits for its other copy to be made gives way to the next.
        contents.expect(bundle.bundle_id for bundle in bundles[1:3])
        self.assertEqual(self.kept(bundles, contents), [1, 2])
        few = Contents(store=self.world.store, staging=self.world.staging, kept_bytes=1)
        few.expect(bundle.bundle_id for bundle in bundles)
        self.assertEqual(self.kept(bundles, few), [])
        of(few, bundles[0]).close()
        self.assertEqual(self.kept(bundles, few), [])

    def test_lost_bytes(self) -> None:
        """Whoever wants to write a bundle is told that bytes are gone; making it ready ahead passes over it."""
        version, _ = self.put(1, 1)
        (bundle,) = frozen(self.world, self.run_)
        now_of(Deferred.fromCoroutine(self.contents.close()))
        (piece,) = now_of(self.world.store.pieces(version.layout_id, after_ordinal=0, limit=10))
        self.world.staging.lose(piece.address)
        self.contents.expect([bundle.bundle_id])
        self.assertEqual(self.kept([bundle], self.contents), [])
        self.failureResultOf(Deferred.fromCoroutine(self.contents.of(bundle)), DiskFault)
        self.assertEqual((len(self.world.staging.scratches), self.pins()), (0, 0))

    def test_no_room(self) -> None:
        """Without room for headers a bundle is frozen nevertheless, and made ready when there is."""
        self.put(1)
        self.world.staging.fail_next("scratch", StagingFull("full"))
        (bundle,) = frozen(self.world, self.run_)
        self.assertEqual((len(self.world.staging.scratches), self.pins()), (0, 0))
        self.world.staging.fail_next("scratch", StagingFull("full"))
        self.failureResultOf(Deferred.fromCoroutine(self.contents.of(bundle)), DestinationFault)
        loan = of(self.contents, bundle)
        self.assertEqual(self.written(loan), self.recorded(bundle))


class WornTests(SynchronousTestCase):
    """What was made ready goes bad."""

    def test_changed(self) -> None:
        """Headers that are not what they were never count as written: they are made anew, and nobody is to blame."""
        world = World()
        run = Run(world).start()
        version = world.put("k", 5000)
        original = world.staging.scratch
        spoiled: list[str] = []

        def scratch(write: object) -> Deferred[object]:
            def spoil(made: tuple[object, object]) -> tuple[object, object]:
                if not spoiled:
                    (path,) = world.staging.scratches
                    world.staging.scratches[path][700] ^= 1
                    spoiled.append(path)
                return made

            return original(write).addCallback(spoil)  # type: ignore[arg-type, return-value]

        world.staging.scratch = scratch  # type: ignore[method-assign, assignment]
        run.until(lambda: world.is_cold(version))
        self.assertTrue(spoiled)
        world.check()
        self.assertEqual(len(world.where(version)), 2)
        self.assertEqual(world.staging.usage().used_bytes, 0)
        kinds = {alert.kind for alert in now_of(world.store.alerts(include_cleared=True, limit=10))}
        self.assertNotIn("staged-bytes-damaged", kinds)
