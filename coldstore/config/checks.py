"""What settings must be to each other: one pure function over a configuration whose single values are all right."""

from collections import Counter
from collections.abc import Iterator

from coldstore.config.schema import ClassSettings, Configuration, Tape

Path = tuple[str | int, ...]


def contradictions(configuration: Configuration) -> list[tuple[Path, str]]:
    """Return the settings that contradict others: the path of the one to change, and why."""
    return [
        *_endpoints(configuration),
        *_metadata(configuration),
        *_disk(configuration),
        *_classes(configuration),
        *_scheduling(configuration),
        *_tape(configuration.tape),
        *_webhooks(configuration),
    ]


def _endpoints(configuration: Configuration) -> Iterator[tuple[Path, str]]:
    server, operator = configuration.server, configuration.operator
    setting = "server.endpoints" if server.endpoints else "server.port"
    places = [(listener.interface, listener.port) for listener in configuration.listeners if listener.port]
    if (operator.address, operator.port) in places:
        yield ("operator", "port"), f"{operator.port} is the port of the S3 endpoint ({setting}) already"
    for index, place in enumerate(places):
        if place in places[:index]:
            yield ("server", "endpoints"), f"port {place[1]} is named twice"
    if server.endpoints and server.tls.certificate_file is not None:
        yield (
            ("server", "tls", "certificate_file"),
            "belongs to server.address and server.port; with server.endpoints it is named there: ssl:PORT:privateKey=FILE:certKey=FILE",
        )
    if (server.tls.certificate_file is None) != (server.tls.key_file is None):
        missing = "key_file" if server.tls.key_file is None else "certificate_file"
        yield ("server", "tls", missing), "is missing: TLS needs a certificate and its key"
    # sun_path of unix(7) has 108 bytes, one of them the terminating NUL.
    if len(configuration.admin_socket.encode()) > 107:
        yield (
            ("admin", "socket"),
            f"{configuration.admin_socket!r} is longer than the 107 bytes a socket's path may have",
        )


def _metadata(configuration: Configuration) -> Iterator[tuple[Path, str]]:
    server = configuration.metadata.postgresql
    if server.tls in ("verify-ca", "verify-full") and server.ca_file is None:
        yield (
            ("metadata", "postgresql", "ca_file"),
            f"is missing: with tls: {server.tls} it says who may vouch for the server",
        )
    etcd = configuration.metadata.etcd
    if not etcd.endpoints:
        yield ("metadata", "etcd", "endpoints"), "is empty: name at least one member"
    if (etcd.user is None) != (etcd.password_file is None):
        missing, given = ("user", "password_file") if etcd.user is None else ("password_file", "user")
        yield ("metadata", "etcd", missing), f"is missing: {given} alone says nothing"
    if (etcd.certificate_file is None) != (etcd.key_file is None):
        missing, given = (
            ("certificate_file", "key_file") if etcd.key_file else ("key_file", "certificate_file")
        )
        yield ("metadata", "etcd", missing), f"is missing: {given} alone says nothing"


def _disk(configuration: Configuration) -> Iterator[tuple[Path, str]]:
    staging, cache = configuration.staging, configuration.cache
    if staging.segment_bytes > staging.capacity_bytes:
        yield ("staging", "segment"), "is larger than staging.capacity"
    if staging.small_object_bytes * 4 > staging.segment_bytes:
        yield ("staging", "small_object"), "must not be larger than a quarter of staging.segment"
    if cache.low_mark >= cache.high_mark:
        yield ("cache", "low_mark"), "must be less than cache.high_mark"
    if staging.expedited_share > staging.restore_share:
        yield ("staging", "expedited_share"), "is a part of staging.restore_share and must not be larger"
    if cache.high_mark > 1 - staging.restore_share - staging.multipart_share:
        yield (
            ("cache", "high_mark"),
            "must not be more than 1 - staging.restore_share - staging.multipart_share: uploads would be refused before "
            "anything is evicted for them",
        )


def _classes(configuration: Configuration) -> Iterator[tuple[Path, str]]:
    if not configuration.pools:
        yield ("pools",), "at least one pool is needed"
    for name, settings in configuration.classes.items():
        for problem in _class(settings):
            yield ("classes", name), problem
        for index, pool in enumerate(settings.tape_copies):
            if pool not in configuration.pools:
                known = ", ".join(sorted(configuration.pools))
                yield ("classes", name, "tape_copies", index), f"there is no pool {pool!r} (pools: {known})"


def _class(settings: ClassSettings) -> Iterator[str]:
    if len(set(settings.tape_copies)) < len(settings.tape_copies):
        yield "tape_copies names a pool twice; copies lie in different pools"
    if not settings.tape_copies and not settings.keep_on_disk:
        yield "without tape_copies and without keep_on_disk its objects would be nowhere"
    if not settings.keep_on_disk and not settings.needs_restore:
        yield "without keep_on_disk reads need a restore: set needs_restore too"


def _scheduling(configuration: Configuration) -> Iterator[tuple[Path, str]]:
    trigger = configuration.archive.trigger
    if trigger.idle_age_seconds > trigger.age_seconds:
        yield ("archive", "trigger", "idle_age"), "must not be longer than archive.trigger.age"
    tiers = configuration.recall.tiers
    for key, tier in (("expedited", tiers.expedited), ("standard", tiers.standard), ("bulk", tiers.bulk)):
        if tier.hold_seconds > tier.target_seconds:
            yield ("recall", "tiers", key, "hold"), "must not be longer than the tier's target"
    for slower, faster, key in (
        (tiers.standard, tiers.expedited, "standard"),
        (tiers.bulk, tiers.standard, "bulk"),
    ):
        if slower.target_seconds < faster.target_seconds:
            yield (
                ("recall", "tiers", key, "target"),
                "must not be shorter than the target of the next faster tier",
            )
    notify = configuration.notify
    if notify.pause_first_seconds > notify.pause_max_seconds:
        yield ("notify", "pause_first"), "must not be longer than notify.pause_max"


def _tape(tape: Tape) -> Iterator[tuple[Path, str]]:
    virtual = tape.virtual
    if tape.library == "virtual":
        if virtual.cartridges > virtual.slots:
            yield (
                ("tape", "virtual", "cartridges"),
                f"there are only {virtual.slots} slots (tape.virtual.slots)",
            )
        if tape.drives or tape.changer is not None:
            path = "drives" if tape.drives else "changer"
            yield ("tape", path), "belongs to a real library: set tape.library to scsi"
        if tape.reservations:
            yield ("tape", "reservations"), "belongs to a real library: set tape.library to scsi"
        return
    if tape.changer is None:
        yield ("tape", "changer"), "is missing: tape.library is scsi"
    if not tape.drives:
        yield ("tape", "drives"), "is empty: tape.library is scsi"
    for key in ("element", "device", "generic_device", "serial"):
        values = [getattr(drive, key) for drive in tape.drives]
        counts = Counter(value for value in values if value is not None)
        for index, value in enumerate(values):
            if counts[value] > 1 and value in values[:index]:
                yield (
                    ("tape", "drives", index, key),
                    f"{value!r} is that of drives[{values.index(value)}] too",
                )
    for index, drive in enumerate(tape.drives):
        name = drive.device.rsplit("/", 1)[-1]
        if name.startswith("st") and name[2:3].isdigit():
            yield (
                ("tape", "drives", index, "device"),
                f"{drive.device!r} rewinds when it is closed, which destroys LTFS volumes; name the device n{name}",
            )


def _webhooks(configuration: Configuration) -> Iterator[tuple[Path, str]]:
    names = [webhook.name for webhook in configuration.notify.webhooks]
    for index, name in enumerate(names):
        if name in names[:index]:
            yield (
                ("notify", "webhooks", index, "name"),
                f"{name!r} is that of webhooks[{names.index(name)}] too",
            )
