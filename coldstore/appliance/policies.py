"""From settings to the values that planners and loops take."""

from types import MappingProxyType

from coldstore.config.schema import Configuration, KeepingQuotas, RecallTier
from coldstore.model.events import is_wanted
from coldstore.model.objects import StorageClass, Tier
from coldstore.model.precedence import Shares
from coldstore.model.quotas import Quotas
from coldstore.plan.archive import ArchivePolicy
from coldstore.plan.blame import ApartPolicy
from coldstore.plan.classes import ClassRule, ClassRules
from coldstore.plan.dumps import DumpPolicy
from coldstore.plan.evict import EvictPolicy, Preference
from coldstore.plan.jobs import MountPolicy, TierPolicy
from coldstore.plan.messages import LIFECYCLE_EVENTS
from coldstore.plan.quota import DefaultQuotas
from coldstore.plan.verify import VerifyMode
from coldstore.work.deliverer import DeliveryPolicy
from coldstore.work.dispatcher import BlamePolicy
from coldstore.work.lifecycle import LifecyclePolicy
from coldstore.work.writing import SyncPolicy


def class_rules(configuration: Configuration) -> ClassRules:
    """Return what each storage class promises."""
    return MappingProxyType(
        {
            StorageClass(name): ClassRule(
                pools=settings.tape_copies,
                keep_on_disk=settings.keep_on_disk,
                needs_restore=settings.needs_restore,
                allows_expedited=settings.allows_expedited,
            )
            for name, settings in configuration.classes.items()
        }
    )


def archive_policy(configuration: Configuration) -> ArchivePolicy:
    """Return the thresholds of the archive."""
    archive = configuration.archive
    return ArchivePolicy(
        bundle_bytes=archive.bundle_size_bytes,
        cartridge_share=archive.bundle_cartridge_share,
        bundle_members_max=archive.bundle_members_max,
        trigger_bytes=archive.trigger.size_bytes,
        trigger_objects=archive.trigger.objects,
        trigger_age=archive.trigger.age_seconds,
        idle_age=archive.trigger.idle_age_seconds,
    )


def sync_policy(configuration: Configuration) -> SyncPolicy:
    """Return when the index goes to tape, and what is read back."""
    return SyncPolicy(
        sync_bytes=configuration.archive.sync_bytes,
        sync_seconds=configuration.archive.sync_age_seconds,
        verify=MappingProxyType(
            {name: VerifyMode(pool.verify) for name, pool in configuration.pools.items()}
        ),
    )


def mount_policy(configuration: Configuration) -> MountPolicy:
    """Return when cartridges come and go."""
    tiers = configuration.recall.tiers

    def tier(settings: RecallTier) -> TierPolicy:
        return TierPolicy(
            hold_seconds=settings.hold_seconds,
            enough_bytes=settings.enough_bytes,
            enough_items=settings.enough_items,
            limit_seconds=settings.target_seconds,
        )

    return MountPolicy(
        tiers=MappingProxyType(
            {
                Tier.EXPEDITED: tier(tiers.expedited),
                Tier.STANDARD: tier(tiers.standard),
                Tier.BULK: tier(tiers.bulk),
            }
        ),
        archive_share=configuration.mount.archive_share,
        idle_unload_seconds=configuration.mount.idle_unload_seconds,
        max_hold_seconds=configuration.mount.max_hold_seconds,
        another_drive_bytes=configuration.archive.another_drive_bytes,
        another_drive_fraction=configuration.archive.another_drive_share,
        reserve_fraction=configuration.archive.reserve_share,
        reserve_bytes=configuration.archive.reserve_bytes,
        session_bytes_max=configuration.archive.session_bytes,
    )


def blame_policy(configuration: Configuration) -> BlamePolicy:
    """Return how failures of drives and cartridges count."""
    return BlamePolicy(
        window_seconds=86_400.0,
        apart=ApartPolicy(apart_seconds=3600.0, alone_seconds=60.0),
        attempts_max=configuration.recall.attempts_max,
    )


def disk_shares(configuration: Configuration) -> Shares:
    """Return who leaves how much of the disk to others."""
    staging = configuration.staging
    return Shares(begun=staging.multipart_share, recall=staging.restore_share, urgent=staging.expedited_share)


def default_quotas(configuration: Configuration) -> DefaultQuotas:
    """Return what users and buckets may have that were given no quota of their own."""
    staged = configuration.staging.quotas
    return DefaultQuotas(
        user=_quotas(configuration.quotas.user, staged.user_bytes),
        bucket=_quotas(configuration.quotas.bucket, staged.bucket_bytes),
    )


def _quotas(kept: KeepingQuotas, staged_bytes: int | None) -> Quotas:
    return Quotas(
        staging=staged_bytes, kept=kept.kept_bytes, restores=kept.restores_bytes, objects=kept.objects
    )


def evict_policy(configuration: Configuration) -> EvictPolicy:
    """Return what leaves the disk."""
    cache = configuration.cache
    return EvictPolicy(
        linger_seconds=cache.linger_seconds,
        high_fraction=cache.high_mark,
        low_fraction=cache.low_mark,
        preference=Preference(cache.policy),
    )


def lifecycle_policy(configuration: Configuration) -> LifecyclePolicy:
    """Return how lifecycle rules are carried out."""
    lifecycle = configuration.lifecycle
    return LifecyclePolicy(
        interval_seconds=lifecycle.interval_seconds,
        turn_versions=lifecycle.turn_objects,
        day_seconds=configuration.time.day_seconds,
    )


def lifecycle_events(configuration: Configuration) -> frozenset[str]:
    """Return the events of the lifecycle that some target wants: nobody else makes as many at once."""
    patterns = [pattern for webhook in configuration.notify.webhooks for pattern in webhook.events]
    return frozenset(
        event for event in LIFECYCLE_EVENTS if any(is_wanted(event, pattern) for pattern in patterns)
    )


def delivery_policy(configuration: Configuration) -> DeliveryPolicy:
    """Return how often a message is tried."""
    notify = configuration.notify
    return DeliveryPolicy(
        first_pause_seconds=notify.pause_first_seconds,
        longest_pause_seconds=notify.pause_max_seconds,
        age_max_seconds=notify.give_up_seconds,
    )


def dump_policy(configuration: Configuration) -> DumpPolicy:
    """Return how often the metadata are dumped."""
    dumps = configuration.metadata.dumps
    return DumpPolicy(every_seconds=dumps.every_seconds, keep_seconds=dumps.keep_seconds)
