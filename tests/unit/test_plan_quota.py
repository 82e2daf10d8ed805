"""Who may have more of the disk."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from coldstore.model.objects import Bucket, User
from coldstore.model.quotas import UNLIMITED, QuotaKind, Quotas, Use
from coldstore.plan.quota import (
    DefaultQuotas,
    Fit,
    Held,
    fit,
    fullest_first,
    in_force,
    is_fair,
    standing_of_bucket,
    standing_of_user,
)


class FitTests(SynchronousTestCase):
    """Quotas."""

    def test_table(self) -> None:
        """What stays counts for good, what passes only for now; a quota can be used to its last byte."""
        for quota, lasting, passing, wanted, expected in (
            (100, 0, 0, 100, Fit.NOW),
            (100, 0, 0, 101, Fit.NEVER),
            (100, 60, 30, 10, Fit.NOW),
            (100, 60, 30, 11, Fit.LATER),
            (100, 60, 40, 40, Fit.LATER),
            (100, 60, 0, 41, Fit.NEVER),
            (100, 101, 0, 0, Fit.NEVER),
            (0, 0, 0, 1, Fit.NEVER),
            (100, 0, 300, 100, Fit.LATER),
        ):
            held = Held(lasting_bytes=lasting, passing_bytes=passing)
            found = fit(quota, held=held, wanted_bytes=wanted)
            self.assertIs(found, expected, (quota, lasting, passing, wanted))

    def test_sums(self) -> None:
        """Each kind is added to its own."""
        both = Held(lasting_bytes=1, passing_bytes=2) + Held(lasting_bytes=10, passing_bytes=20)
        self.assertEqual(both, Held(lasting_bytes=11, passing_bytes=22))


class StandingTests(SynchronousTestCase):
    """How users and buckets stand."""

    DEFAULTS = DefaultQuotas(user=Quotas(kept=10, objects=4), bucket=Quotas(kept=20))
    ANN = User(user_id="1", name="ann", created_at=1.0, quotas=Quotas(kept=UNLIMITED))
    BUCKET = Bucket(bucket_uid=1, name="bkt", owner_id="1", region="r", created_at=1.0)

    def test_in_force(self) -> None:
        """One's own come before the defaults, each for itself; none at all leaves all of those."""
        self.assertEqual(in_force(Quotas(), self.DEFAULTS.user), self.DEFAULTS.user)
        own = Quotas(staging=1, kept=0)
        self.assertEqual(in_force(own, self.DEFAULTS.user), Quotas(staging=1, kept=0, objects=4))

    def test_fullness(self) -> None:
        """The part that is used; nothing of what is not bounded; all of a quota of nothing, once there is something."""
        ann = standing_of_user(self.ANN, Use(kept=5, objects=3), self.DEFAULTS)
        self.assertEqual(
            [ann.fullness(kind) for kind in QuotaKind], [None, None, None, 0.75], list(QuotaKind)
        )
        self.assertEqual((ann.whose, ann.fullest), ("user ann", 0.75))
        closed = standing_of_bucket(self.BUCKET, Use(), DefaultQuotas(bucket=Quotas(kept=0)))
        self.assertEqual(closed.fullest, 0.0)
        closed = standing_of_bucket(self.BUCKET, Use(kept=1), DefaultQuotas(bucket=Quotas(kept=0)))
        self.assertEqual(closed.fullest, 1.0)
        self.assertIsNone(standing_of_bucket(self.BUCKET, Use(kept=1), DefaultQuotas()).fullest)

    def test_nearly_full(self) -> None:
        """From nine tenths on, or, once that was told, until it is clearly less; of the staging disk never."""
        for kept, was_told, expected in (
            (89, False, False),
            (90, False, True),
            (85, True, True),
            (84, True, False),
        ):
            of_bucket = DefaultQuotas(bucket=Quotas(staging=1, kept=100))
            standing = standing_of_bucket(self.BUCKET, Use(staging=1, kept=kept), of_bucket)
            self.assertIs(standing.is_nearly_full(QuotaKind.KEPT, was_told=was_told), expected, kept)
            self.assertFalse(standing.is_nearly_full(QuotaKind.STAGED, was_told=was_told))
            self.assertFalse(standing.is_nearly_full(QuotaKind.OBJECTS, was_told=was_told))

    def test_fullest_first(self) -> None:
        """Those with quotas, the fullest first, then by name."""
        ann = standing_of_user(self.ANN, Use(objects=1), self.DEFAULTS)
        bucket = standing_of_bucket(self.BUCKET, Use(kept=19), self.DEFAULTS)
        bare = standing_of_bucket(self.BUCKET, Use(kept=19), DefaultQuotas())
        self.assertEqual(fullest_first([ann, bare, bucket]), [bucket, ann])


class FairnessTests(SynchronousTestCase):
    """What somebody must leave to others."""

    def test_table(self) -> None:
        """One thing at a time may take everything; beside that a third of what one has arriving must stay free."""
        for wanted, arriving, room, expected in (
            (100, 0, 100, True),
            (10, 1, 100, True),
            (60, 60, 100, True),
            (61, 60, 100, False),
            (1, 300, 100, False),
            (1, 296, 100, True),
            (1, 1, 1, False),
            (1, 1, 2, True),
        ):
            found = is_fair(wanted=wanted, held=arriving, room=room)
            self.assertIs(found, expected, (wanted, arriving, room))

    @given(st.lists(st.integers(0, 5), min_size=1, max_size=200), st.integers(1, 20))
    def test_somebody_new_always_finds_room(self, who: list[int], wanted: int) -> None:
        """However six users press, one by one, who comes as the seventh finds room for something, unless things came alone."""
        room = capacity = 1000
        arriving = [0] * 6
        for user in who:
            if wanted <= room and is_fair(wanted=wanted, held=arriving[user], room=room):
                arriving[user] += wanted
                room -= wanted
        self.assertEqual(room, capacity - sum(arriving))
        # Each has at most three times what stays free, or one thing: so six leave a nineteenth of the disk.
        self.assertGreaterEqual(room, capacity // 19 - wanted)
