"""What every drive is doing now, for ``coldstore drives`` and ``coldstore jobs``. In memory: it describes this run only."""

from dataclasses import replace

from coldstore.model.activity import DriveActivity


class ActivityBoard:
    """The drives' activities, one entry per drive."""

    def __init__(self) -> None:
        self._entries: dict[int, DriveActivity] = {}

    def entries(self) -> list[DriveActivity]:
        """Return all entries by drive."""
        return [self._entries[drive] for drive in sorted(self._entries)]

    def set(self, activity: DriveActivity) -> None:
        """Replace a drive's entry."""
        self._entries[activity.drive] = activity

    def progress(self, drive: int, done_bytes: int) -> None:
        """Note how far the present step of a drive is."""
        self._entries[drive] = replace(self._entries[drive], done_bytes=done_bytes)
