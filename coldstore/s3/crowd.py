"""Many clients at once: who has to go when a connection too many comes, and how many requests one user may have served."""

from collections import Counter, OrderedDict
from typing import Protocol

from coldstore.plan.quota import is_fair
from coldstore.s3.errors import S3Error


class Member(Protocol):
    """A connection."""

    @property
    def is_resting(self) -> bool:
        """Whether no request of it is served: its client may open another one and lose nothing."""

    def give_way(self) -> None:
        """Close: somebody else needs the place."""


class Crowd:
    """
    The connections of a site, no more than so many.

    When all places are taken, the one that rests for longest gives way to whoever comes: connections that clients keep for
    later, or open and say nothing on, never keep others out.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._members: OrderedDict[Member, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._members)

    def has_room(self) -> bool:
        """Tell whether one more may come; somebody may have had to give way for it."""
        if len(self._members) < self._most:
            return True
        resting = next((member for member in self._members if member.is_resting), None)
        if resting is None:
            return False
        self.leave(resting)
        resting.give_way()
        return True

    def join(self, member: Member) -> None:
        """A connection was made."""
        self._members[member] = None

    def rests(self, member: Member) -> None:
        """A connection has been of use until now."""
        if member in self._members:
            self._members.move_to_end(member)

    def leave(self, member: Member) -> None:
        """A connection is over, or as good as that. Repeatable."""
        self._members.pop(member, None)


class Turns:
    """The requests that are being served, by user: one user leaves some of what is possible at once to others."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._served: Counter[str] = Counter()

    def enter(self, user_id: str) -> None:
        """
        Begin to serve a request.

        :raise S3Error: SlowDown; ``leave`` is not called then
        """
        room = self._most - self._served.total()
        if not is_fair(wanted=1, held=self._served[user_id], room=room):
            raise S3Error(
                "SlowDown",
                f"{self._served[user_id]} requests of this user are being served. Please try again when some are through.",
                headers={"Retry-After": "1"},
            )
        self._served[user_id] += 1

    def leave(self, user_id: str) -> None:
        """A request of this user is over."""
        self._served[user_id] -= 1
        if not self._served[user_id]:
            del self._served[user_id]
