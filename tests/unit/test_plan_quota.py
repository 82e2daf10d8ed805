"""Who may have more of the disk."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from coldstore.plan.quota import Fit, Held, fit, is_fair


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
            found = is_fair(wanted_bytes=wanted, arriving_bytes=arriving, room_bytes=room)
            self.assertIs(found, expected, (wanted, arriving, room))

    @given(st.lists(st.integers(0, 5), min_size=1, max_size=200), st.integers(1, 20))
    def test_somebody_new_always_finds_room(self, who: list[int], wanted: int) -> None:
        """However six users press, one by one, who comes as the seventh finds room for something, unless things came alone."""
        room = capacity = 1000
        arriving = [0] * 6
        for user in who:
            if wanted <= room and is_fair(
                wanted_bytes=wanted, arriving_bytes=arriving[user], room_bytes=room
            ):
                arriving[user] += wanted
                room -= wanted
        self.assertEqual(room, capacity - sum(arriving))
        # Each has at most three times what stays free, or one thing: so six leave a nineteenth of the disk.
        self.assertGreaterEqual(room, capacity // 19 - wanted)
