"""From which cartridges to read what restores want, and in which order."""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from coldstore.model.objects import Tier

TIER_RANK = {Tier.EXPEDITED: 0, Tier.STANDARD: 1, Tier.BULK: 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A copy that could be read; ``failures`` counts attempts that brought nothing."""

    barcode: str
    partition: str
    start_block: int
    failures: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One extent that a restore wants. ``sources`` are its copies on tape, wherever the cartridges are."""

    version_uid: int
    extent: int
    bundle_id: str
    bundle_offset_bytes: int
    length_bytes: int
    tier: Tier
    asked_at: float
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one cartridge is to deliver in one mount, in reading order."""

    barcode: str
    items: tuple[Wanted, ...]
    size_bytes: int
    tier: Tier
    oldest_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallPlan:
    """
    Every wanted extent is in exactly one of the two: in a batch, or unreachable because none of its cartridges can
    be read now.
    """

    batches: tuple[Batch, ...]
    unreachable: tuple[Wanted, ...]


def plan_batches(
    wanted: Iterable[Wanted], *, readable: Collection[str], loaded: Collection[str]
) -> RecallPlan:
    """
    Give each extent to one cartridge, few cartridges in all: those in drives first, then those that can serve most.

    A copy that failed is read again only when the others of its bundle have failed as often.

    :param readable: barcodes of cartridges that are in the library and may be read.
    :param loaded: barcodes that are in drives already.
    """
    reachable: list[tuple[Wanted, tuple[Source, ...]]] = []
    unreachable: list[Wanted] = []
    for item in wanted:
        sources = tuple(source for source in item.sources if source.barcode in readable)
        if sources:
            reachable.append((item, sources))
        else:
            unreachable.append(item)
    demand = Counter(
        barcode for _, sources in reachable for barcode in {source.barcode for source in sources}
    )

    def preference(barcode: str) -> tuple[bool, int, str]:
        return barcode not in loaded, -demand[barcode], barcode

    batches: dict[str, list[tuple[Source, Wanted]]] = {}
    for item, sources in reachable:
        best = min(sources, key=lambda source: (source.failures, preference(source.barcode)))
        batches.setdefault(best.barcode, []).append((best, item))
    return RecallPlan(
        batches=tuple(
            _batch(barcode, items)
            for barcode, items in sorted(batches.items(), key=lambda entry: preference(entry[0]))
        ),
        unreachable=tuple(unreachable),
    )


def _batch(barcode: str, items: list[tuple[Source, Wanted]]) -> Batch:
    ordered = sorted(
        items,
        key=lambda pair: (
            pair[0].partition,
            pair[0].start_block,
            pair[1].bundle_id,
            pair[1].bundle_offset_bytes,
        ),
    )
    return Batch(
        barcode=barcode,
        items=tuple(item for _, item in ordered),
        size_bytes=sum(item.length_bytes for _, item in ordered),
        tier=min((item.tier for _, item in ordered), key=TIER_RANK.__getitem__),
        oldest_at=min(item.asked_at for _, item in ordered),
    )
