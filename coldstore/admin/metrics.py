"""``/metrics`` in the Prometheus text format (exposition formats, version 0.0.4)."""

from collections.abc import Sequence

from coldstore.interfaces.control import Health, LifecycleStanding
from coldstore.interfaces.metadata import Backlog, StoreTotals
from coldstore.interfaces.staging import StagingUsage
from coldstore.model.cartridges import Cartridge, CartridgeState, Drive, DriveState
from coldstore.model.due import ABORT, ActKind
from coldstore.model.quotas import QuotaKind
from coldstore.plan.quota import Standing

LIFECYCLE_KINDS = (*(kind.value for kind in ActKind), ABORT)


def exposition(
    *,
    health: Health,
    totals: StoreTotals,
    backlog: Sequence[Backlog],
    usage: StagingUsage,
    cartridges: Sequence[Cartridge],
    drives: Sequence[Drive],
    standings: Sequence[Standing],
    lifecycle: LifecycleStanding,
    now: float,
) -> str:
    """
    Return every metric with its help and type. What is read from the record is a gauge; what this run has counted is a counter.

    :param standings: of users and buckets that have quotas, as many as there are to be series of
    """
    lines: list[str] = []

    def gauge(name: str, text: str, values: Sequence[tuple[str, float]], kind: str = "gauge") -> None:
        lines.append(f"# HELP coldstore_{name} {text}")
        lines.append(f"# TYPE coldstore_{name} {kind}")
        lines.extend(f"coldstore_{name}{labels} {value:.17g}" for labels, value in values)

    by_class = [(f'{{class="{entry.storage_class.value}"}}', entry) for entry in backlog]
    gauge("up", "1 while S3 is served.", [("", float(health.is_serving))])
    gauge(
        "library_reconciled",
        "1 once library and record were brought together after the start.",
        [("", float(health.is_library_reconciled))],
    )
    gauge(
        "not_on_every_tape_bytes",
        "Bytes of objects that do not have all their verified tape copies yet.",
        [(labels, float(entry.size_bytes)) for labels, entry in by_class] or [("", 0.0)],
    )
    gauge(
        "not_on_every_tape_objects",
        "Objects that do not have all their verified tape copies yet.",
        [(labels, float(entry.object_count)) for labels, entry in by_class] or [("", 0.0)],
    )
    oldest = min((entry.oldest_at for entry in backlog if entry.oldest_at is not None), default=now)
    gauge(
        "not_on_every_tape_oldest_seconds",
        "Age of the oldest object that does not have all its verified tape copies yet.",
        [("", max(0.0, now - oldest))],
    )
    gauge("buckets", "Buckets.", [("", float(totals.bucket_count))])
    gauge("objects", "Versions of objects, current or not.", [("", float(totals.object_count))])
    gauge("object_bytes", "Bytes of versions of objects, current or not.", [("", float(totals.object_bytes))])
    gauge("on_disk_bytes", "Bytes of objects on disk.", [("", float(totals.on_disk_bytes))])
    gauge("on_tape_bytes", "Bytes of archived objects, counted once.", [("", float(totals.on_tape_bytes))])
    gauge("restores_ongoing", "Restores under way.", [("", float(totals.ongoing_restores))])
    gauge("restored_objects", "Objects with a restored copy.", [("", float(totals.restored_objects))])
    gauge(
        "lifecycle_acts_total",
        "What lifecycle rules did since the start, by kind.",
        [(f'{{kind="{kind}"}}', float(lifecycle.acted.get(kind, 0))) for kind in LIFECYCLE_KINDS],
        "counter",
    )
    gauge(
        "lifecycle_behind_seconds",
        "For how long something has been due by lifecycle rules that is not done yet.",
        [("", 0.0 if lifecycle.behind_since is None else max(0.0, now - lifecycle.behind_since))],
    )
    gauge("outbox_messages", "Notifications not yet delivered.", [("", float(totals.outbox_messages))])
    last_dump = [] if health.last_dump is None else [health.last_dump]
    gauge(
        "metadata_dump_age_seconds",
        "Age of the last good dump of the metadata.",
        [("", max(0.0, now - dump.at)) for dump in last_dump],
    )
    gauge(
        "metadata_dump_bytes",
        "Size of the last good dump of the metadata.",
        [("", float(dump.size_bytes)) for dump in last_dump],
    )
    gauge("alerts_open", "Open alerts.", [("", float(totals.open_alerts))])
    gauge("staging_capacity_bytes", "What the disk may hold.", [("", float(usage.capacity_bytes))])
    gauge("staging_used_bytes", "What the disk holds.", [("", float(usage.used_bytes))])
    gauge(
        "staging_reserved_bytes", "What is promised and has not arrived.", [("", float(usage.reserved_bytes))]
    )
    gauge(
        "cartridges",
        "Cartridges by state.",
        [
            (f'{{state="{state.value}"}}', float(sum(cartridge.state is state for cartridge in cartridges)))
            for state in CartridgeState
        ],
    )
    gauge(
        "drive_up",
        "1 while the drive takes work.",
        [(f'{{drive="{drive.index}"}}', float(drive.state is DriveState.UP)) for drive in drives],
    )
    bounded = [
        (standing, kind)
        for standing in standings
        for kind in QuotaKind
        if standing.fullness(kind) is not None
    ]
    for unit, of_kind in (("bytes", True), ("objects", False)):
        these = [pair for pair in bounded if pair[1].is_of_bytes is of_kind]
        gauge(
            f"quota_{unit}",
            f"What a user or a bucket may have, in {unit}.",
            [(_whose(standing, kind), float(standing.quotas.of(kind) or 0)) for standing, kind in these],
        )
        gauge(
            f"quota_used_{unit}",
            f"What a user or a bucket with such a quota has, in {unit}.",
            [(_whose(standing, kind), float(standing.use.of(kind))) for standing, kind in these],
        )
    return "\n".join(lines) + "\n"


def _whose(standing: Standing, kind: QuotaKind) -> str:
    name = standing.name.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return f'{{of="{standing.noun}",name="{name}",kind="{kind.value}"}}'
