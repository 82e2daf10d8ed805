"""What each storage class promises: how many copies on tape, whether bytes stay on disk, whether reads need a restore."""

from collections.abc import Mapping
from dataclasses import dataclass

from coldstore.model.objects import StorageClass


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassRule:
    """
    One class. ``pools`` names the pool of each copy on tape (empty: none); ``keep_on_disk`` keeps the staged bytes
    after that; ``needs_restore`` refuses reads without a restored copy; ``allows_expedited`` admits the fastest tier.
    """

    pools: tuple[str, ...]
    keep_on_disk: bool
    needs_restore: bool
    allows_expedited: bool = True


ClassRules = Mapping[StorageClass, ClassRule]


def evictable_classes(rules: ClassRules) -> frozenset[StorageClass]:
    """Classes whose bytes may leave the disk once they are on tape."""
    return frozenset(name for name, rule in rules.items() if rule.pools and not rule.keep_on_disk)


def classes_by_pools(rules: ClassRules) -> dict[tuple[str, ...], frozenset[StorageClass]]:
    """Which classes may share a bundle: those with copies in the same pools."""
    grouped: dict[tuple[str, ...], set[StorageClass]] = {}
    for name, rule in rules.items():
        if rule.pools:
            grouped.setdefault(rule.pools, set()).add(name)
    return {pools: frozenset(names) for pools, names in sorted(grouped.items())}
