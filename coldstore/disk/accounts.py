"""
The account of the disk: pure arithmetic on bytes.

Three sums. ``used`` is what published pieces occupy. ``held`` is what was promised to large pieces and recalls that have not
been published. Small pieces are promised room too (``claimed``), and find it in space that the open segment allocated
ahead (``prepared``): the larger of the two is what they hold back, for one is inside the other.

``placed`` is the part of what is held that is on the disk already (preallocated or written), so that the room which the
file system leaves us can be told from its free space whatever we are in the middle of.
"""

from coldstore.model.precedence import Precedence, Shares


class Account:
    """Bytes used, promised and to be had."""

    def __init__(self, configured_bytes: int, min_free_bytes: int, shares: Shares | None = None) -> None:
        shares = shares or Shares()
        self._left = {each: shares.left_by(each) for each in Precedence}
        self._configured = configured_bytes
        self._min_free = min_free_bytes
        self._room: int | None = None
        self.used = 0
        self.estimate = 0
        """While earlier runs' files are still being counted: what ``used`` was when last noted. Zero afterwards."""
        self.held = 0
        self.placed = 0
        self.claimed = 0
        self.prepared = 0

    @property
    def present(self) -> int:
        """What is allocated on the disk under our directory, as far as we know."""
        return self.used + self.placed + self.prepared

    @property
    def spoken_for(self) -> int:
        """What counts as used when something is to be promised."""
        return max(self.used, self.estimate)

    @property
    def reserved(self) -> int:
        """What is promised and not published, space allocated ahead included."""
        return self.held + max(self.claimed, self.prepared)

    @property
    def capacity(self) -> int:
        """What may be used in all: the configured limit, or what the file system leaves beside us."""
        return self._configured if self._room is None else max(0, min(self._configured, self._room))

    @property
    def headroom(self) -> int:
        """What can still be promised, never negative."""
        return max(0, self.capacity - self.spoken_for - self.reserved)

    def headroom_of(self, precedence: Precedence) -> int:
        """What can still be promised to who comes with this precedence, never negative."""
        capacity = self.capacity
        return max(0, capacity - self.spoken_for - self.reserved - int(capacity * self._left[precedence]))

    def saw_free(self, free_bytes: int, present_bytes: int) -> None:
        """Take note that the file system had ``free_bytes`` left while we had ``present_bytes`` on it."""
        self._room = present_bytes + free_bytes - self._min_free

    def hold(self, size_bytes: int, precedence: Precedence) -> bool:
        """Promise room for a large piece or a recall; False (and nothing changed) when there is none."""
        if size_bytes > self.headroom_of(precedence):
            return False
        self.held += size_bytes
        return True

    def let_go(self, size_bytes: int) -> None:
        """End such a promise."""
        self.held -= size_bytes
        assert self.held >= 0, "more given back than was held"

    def claim(self, size_bytes: int, precedence: Precedence) -> bool:
        """Promise room for a record in a segment; False (and nothing changed) when there is none."""
        more = max(self.claimed + size_bytes, self.prepared) - max(self.claimed, self.prepared)
        if more > self.headroom_of(precedence):
            return False
        self.claimed += size_bytes
        return True

    def unclaim(self, size_bytes: int) -> None:
        """End such a promise."""
        self.claimed -= size_bytes
        assert self.claimed >= 0, "more given back than was claimed"

    def preparable(self) -> int:
        """How far a segment may allocate ahead: what small pieces were promised, and what nobody was."""
        return max(self.claimed, self.prepared) - self.prepared + self.headroom
