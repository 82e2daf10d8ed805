"""What an operator may ask of the running appliance beside what the metadata store knows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from twisted.internet.defer import Deferred
from zope.interface import Interface

from coldstore.interfaces.staging import StagingUsage
from coldstore.model.activity import DriveActivity
from coldstore.model.dumps import Dump


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """
    Whether the appliance does its work, in which run and on which machine (by name). ``problems`` name what does not, in
    sentences; ``is_serving`` tells whether S3 answers; ``last_dump`` is the newest dump of the metadata that it has made.
    """

    version: str
    epoch: int
    host: str
    started_at: float
    is_serving: bool
    is_library_reconciled: bool
    problems: tuple[str, ...]
    last_dump: Dump | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LifecycleStanding:
    """
    How lifecycle rules are carried out: what was done in this run, by kind, and since when (unix seconds) something is due that is not
    done yet; None when nothing is.
    """

    acted: Mapping[str, int]
    behind_since: float | None


class IControl(Interface):
    """The appliance, from inside the process."""

    def health() -> Health:
        """Tell how things are."""

    def activities() -> Sequence[DriveActivity]:
        """Tell what each drive is doing."""

    def usage() -> StagingUsage:
        """Tell how full the disk is."""

    def lifecycle() -> LifecycleStanding:
        """Tell how far lifecycle rules are carried out."""

    def archive_now() -> None:
        """Make bundles of everything that waits, without waiting for the thresholds. Repeatable."""

    def drives_changed() -> None:
        """Look again: an operator changed a drive or a cartridge."""

    def drain(is_draining: bool) -> None:
        """
        Let drives finish what they do, take no more work, and put their cartridges away; or take up work again.
        Lasts until it is taken back or the process ends.
        """

    def look_at_library() -> Deferred[None]:
        """Take inventory now; fails with ``LibraryFault``."""

    def reload() -> Deferred[Sequence[str]]:
        """Read the certificates of the S3 endpoint again, now; return a sentence about each. One that cannot be used is not."""
