"""
The settings, section by section, with their built-in defaults.

A field's key in the file is its name without the unit (``capacity_bytes`` is written ``capacity: 64GiB``); ``Annotated``
says how its value is written and which values it may have. Each section of ``etc/coldstore.yaml`` explains its settings
to the operator; what is said here is for programmers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated

from coldstore.config.kinds import (
    Choice,
    Duration,
    Keys,
    Listening,
    Number,
    Path,
    Program,
    Size,
    Switch,
    Text,
    Whole,
)
from coldstore.model.cartridges import VolumeForm
from coldstore.model.objects import StorageClass
from coldstore.util.listening import Listener, TlsFiles, listener_of

KIB, MIB, GIB, TIB, GB = 2**10, 2**20, 2**30, 2**40, 10**9
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0

AbsolutePath = Annotated[str, Path()]
SecretFile = Annotated[str, Path(must_be_readable=True)]
Flag = Annotated[bool, Switch()]
Line = Annotated[str, Text()]
Host = Annotated[str, Text(r"[A-Za-z0-9._:%-]+", "an IP address or a host name")]
Domain = Annotated[
    str,
    Text(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*", "a domain name in lower case"),
]
Port = Annotated[int, Whole(0, 65535)]
ServerPort = Annotated[int, Whole(1, 65535)]
# libpq takes a database's name with "=" or "://" in it for a whole list of parameters (PostgreSQL 15, 34.1.2).
ServerName = Annotated[str, Text(r"[A-Za-z0-9_.@-]{1,63}", "a name (letters, digits and _.@-)")]
EtcdEndpoint = Annotated[
    str,
    Text(
        r"https?://([A-Za-z0-9._-]+|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?", "a URL such as http://127.0.0.1:2379"
    ),
]
Endpoint = Annotated[str, Listening()]
Fraction = Annotated[float, Number(0, 1)]
Executable = Annotated[str, Program()]
Device = Annotated[str, Path()]
Bytes = Annotated[int, Size()]
SomeBytes = Annotated[int, Size(at_least=1)]
Seconds = Annotated[float, Duration()]
SomeSeconds = Annotated[float, Duration(at_least=0.001)]
Count = Annotated[int, Whole(1, 10**9)]
PoolName = Annotated[str, Text(r"[a-z][a-z0-9]{0,31}", "a pool's name (lower-case letters and digits)")]

POOL_KEYS = Keys(
    r"[a-z][a-z0-9]{0,31}", "a pool's name (lower-case letters and digits)", replaces_defaults=True
)
CLASS_KEYS = Keys("|".join(StorageClass), "a storage class", replaces_defaults=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """
    The certificate of the S3 endpoint; without one it speaks plain HTTP.

    :ivar warn_before_seconds: how long before the end of a certificate, of whatever endpoint, an alert tells
    """

    certificate_file: SecretFile | None = None
    key_file: SecretFile | None = None
    warn_before_seconds: Seconds = 21 * DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """
    The S3 endpoint. Port 0 lets the system choose one; ``domains`` are those of virtual-host style requests.

    :ivar public_access_block: whether buckets block what is public of which nobody has said otherwise
    :ivar endpoints: where to listen (``util.listening``), in the place of ``address``, ``port`` and the files of ``tls``
    :ivar min_rate_bytes: what a client must send of a body, or take of an object, each second, on the average of every
        ``idle_timeout_seconds``.
    """

    address: Host = "127.0.0.1"
    port: Port = 8420
    endpoints: tuple[Endpoint, ...] = ()
    region: Annotated[
        str, Text(r"[a-z0-9-]{1,63}", "a region's name (lower-case letters, digits and '-')")
    ] = "us-east-1"
    domains: tuple[Domain, ...] = ()
    sigv2_presigned: Flag = True
    sigv2_headers: Flag = True
    sse_c_over_http: Flag = False
    public_access_block: Flag = True
    tls: Tls = field(default_factory=Tls)
    max_connections: Count = 1024
    idle_timeout_seconds: SomeSeconds = 2 * MINUTE
    min_rate_bytes: Bytes = 4 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """The HTTP endpoint of ``/healthz`` and ``/metrics``; it has no access control."""

    address: Host = "127.0.0.1"
    port: Port = 8421


@dataclass(frozen=True, slots=True, kw_only=True)
class Admin:
    """The UNIX socket of the ``coldstore`` command; null stands for ``admin.sock`` in the state directory."""

    socket: AbsolutePath | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sqlite:
    """The embedded database; null stands for ``metadata.sqlite`` in the state directory."""

    path: AbsolutePath | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Postgresql:
    """
    A database in a PostgreSQL server. A ``host`` that begins with ``/`` is the folder of its socket.

    :ivar tls: libpq's ``sslmode``
    :ivar ca_file: the certificates that may vouch for the server's
    :ivar connect_timeout_seconds: for each attempt; also how long a request waits when the server has gone
    :ivar answer_timeout_seconds: for one statement
    :ivar readers: connections for questions, beside the one that writes
    """

    host: Annotated[
        str, Text(r"/.*|[A-Za-z0-9._:%-]+", "the folder of a socket, an IP address or a host name")
    ] = "/var/run/postgresql"
    port: ServerPort = 5432
    database: ServerName = "coldstore"
    user: ServerName = "coldstore"
    password_file: SecretFile | None = None
    tls: Annotated[str, Choice(("disable", "allow", "prefer", "require", "verify-ca", "verify-full"))] = (
        "prefer"
    )
    ca_file: SecretFile | None = None
    connect_timeout_seconds: SomeSeconds = 10.0
    answer_timeout_seconds: SomeSeconds = 60.0
    readers: Annotated[int, Whole(1, 100)] = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Etcd:
    """
    A cluster of etcd.

    :ivar endpoints: members of one cluster, asked in turn
    :ivar prefix: of all keys; each appliance has its own
    :ivar ca_file: the certificates that may vouch for the servers'; null: those that the machine trusts
    :ivar certificate_file: ours, with ``key_file``
    :ivar request_timeout_seconds: for each call
    :ivar replica: the local file; null stands for ``metadata-etcd.sqlite`` in the state directory
    """

    endpoints: tuple[EtcdEndpoint, ...] = ("http://127.0.0.1:2379",)
    prefix: Annotated[str, Text(r"(/[A-Za-z0-9_.-]{1,100}){1,5}", "a path such as /coldstore")] = "/coldstore"
    user: Annotated[str, Text(r"[^\s]{1,100}", "a name")] | None = None
    password_file: SecretFile | None = None
    ca_file: SecretFile | None = None
    certificate_file: SecretFile | None = None
    key_file: SecretFile | None = None
    request_timeout_seconds: SomeSeconds = 10.0
    replica: AbsolutePath | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dumps:
    """
    Dumps of the metadata, which an appliance makes by itself while it works.

    :ivar directory: null stands for ``dumps`` in the state directory.
    :ivar every_seconds: null for none.
    :ivar keep_seconds: a dump goes when it is older and there is a newer one.
    """

    directory: AbsolutePath | None = None
    every_seconds: Annotated[float, Duration(at_least=60)] | None = DAY
    keep_seconds: Seconds = 7 * DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """
    Where the metadata are kept.

    :ivar standby: an appliance that finds another one at work waits, and takes over when that one is gone; else it does not start
    """

    backend: Annotated[str, Choice(("sqlite", "postgresql", "etcd"))] = "sqlite"
    sqlite: Sqlite = field(default_factory=Sqlite)
    postgresql: Postgresql = field(default_factory=Postgresql)
    etcd: Etcd = field(default_factory=Etcd)
    dumps: Dumps = field(default_factory=Dumps)
    standby: Flag = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StagingQuotas:
    """
    What one user, and one bucket, may have on the staging disk at once that were given no quota of their own; null: no
    bound.
    """

    user_bytes: SomeBytes | None = None
    bucket_bytes: SomeBytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepingQuotas:
    """
    What one may have that was given no quota of its own; null: no bound. ``coldstore.model.quotas`` says what each counts.
    """

    kept_bytes: SomeBytes | None = None
    restores_bytes: SomeBytes | None = None
    objects: Annotated[int, Whole(1, 10**15)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DefaultQuotas:
    """What users and buckets may have; of the staging disk ``StagingQuotas``."""

    user: KeepingQuotas = field(default_factory=KeepingQuotas)
    bucket: KeepingQuotas = field(default_factory=KeepingQuotas)


@dataclass(frozen=True, slots=True, kw_only=True)
class Staging:
    """
    Disk space for bytes that are not safe on tape yet, and for restored copies.

    :ivar directory: null stands for ``staging`` in the state directory.
    :ivar capacity_bytes: what may be used at most; ``min_free_bytes`` stay free on the file system in any case.
    :ivar restore_share: the part of the capacity that uploads leave to restores.
    :ivar expedited_share: the last part of that, which other restores leave to Expedited ones.
    :ivar multipart_share: what new objects and uploads leave to further parts of uploads that have begun, beside that.
    :ivar small_object_bytes: objects up to this size share segments; larger ones are files.
    """

    directory: AbsolutePath | None = None
    capacity_bytes: SomeBytes = 64 * GIB
    min_free_bytes: Bytes = 1 * GIB
    restore_share: Fraction = 0.1
    expedited_share: Fraction = 0.02
    multipart_share: Fraction = 0.03
    quotas: StagingQuotas = field(default_factory=StagingQuotas)
    small_object_bytes: Annotated[int, Size(0, 16 * MIB)] = 256 * KIB
    segment_bytes: Annotated[int, Size(1 * MIB, 16 * GIB)] = 64 * MIB
    threads: Annotated[int, Whole(1, 256)] = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """
    Which bytes leave the disk once they are on tape.

    :ivar linger_seconds: how long archived bytes stay if nothing else needs their room.
    :ivar high_mark: the part of the staging capacity in use at which bytes are evicted early, until ``low_mark``.
    """

    policy: Annotated[str, Choice(("lru", "lfu"))] = "lru"
    linger_seconds: Seconds = 0.0
    high_mark: Fraction = 0.85
    low_mark: Fraction = 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassSettings:
    """
    What a storage class promises.

    :ivar tape_copies: the pool of each copy on tape.
    :ivar keep_on_disk: whether the bytes stay on disk when the copies are verified.
    :ivar needs_restore: whether reads are refused without a restored copy.
    :ivar allows_expedited: whether the tier Expedited may be asked for.
    """

    tape_copies: tuple[PoolName, ...] = ("main", "vault")
    keep_on_disk: Flag = True
    needs_restore: Flag = False
    allows_expedited: Flag = True


def _default_classes() -> Mapping[str, ClassSettings]:
    archived = {
        StorageClass.GLACIER: ClassSettings(keep_on_disk=False, needs_restore=True),
        StorageClass.DEEP_ARCHIVE: ClassSettings(
            keep_on_disk=False, needs_restore=True, allows_expedited=False
        ),
    }
    return MappingProxyType({str(name): archived.get(name, ClassSettings()) for name in StorageClass})


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """How the copies in a pool's cartridges are verified before the bytes on disk may go."""

    verify: Annotated[str, Choice(("read_back", "sample", "index"))] = "read_back"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveTrigger:
    """When waiting objects are worth a mount: any of these; ``idle_age_seconds`` counts while a drive is idle."""

    size_bytes: SomeBytes = 500 * GB
    objects: Count = 10_000
    age_seconds: Seconds = 4 * HOUR
    idle_age_seconds: Seconds = 1 * HOUR


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """
    How objects are packed and written.

    :ivar bundle_cartridge_share: a bundle takes at most this part of a cartridge, however large ``bundle_size_bytes``.
    :ivar reserve_share: the part of a cartridge that stays free for its indexes and manifests, at most ``reserve_bytes``.
    :ivar session_bytes: what is written at most before it is verified.
    :ivar another_drive_bytes: one more cartridge of a pool is mounted for every so many bytes that wait for it, at most
        ``another_drive_share`` of a cartridge.
    :ivar sync_bytes: the index goes to tape after so many bytes or ``sync_age_seconds``, whichever comes first.
    """

    bundle_size_bytes: SomeBytes = 32 * GIB
    bundle_members_max: Annotated[int, Whole(1, 100_000)] = 10_000
    bundle_cartridge_share: Annotated[float, Number(0.001, 1)] = 0.25
    trigger: ArchiveTrigger = field(default_factory=ArchiveTrigger)
    reserve_share: Annotated[float, Number(0, 0.5)] = 0.05
    reserve_bytes: Bytes = 10 * GIB
    session_bytes: SomeBytes = 2 * TIB
    another_drive_bytes: SomeBytes = 500 * GB
    another_drive_share: Annotated[float, Number(0.0001, 1)] = 0.03
    sync_bytes: SomeBytes = 32 * GIB
    sync_age_seconds: SomeSeconds = 10 * MINUTE


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallTier:
    """
    One tier of restores.

    :ivar hold_seconds: how long a recall waits for company on its cartridge when every drive is busy.
    :ivar enough_bytes: with so many bytes, or ``enough_items`` requests, on a cartridge it does not wait.
    :ivar target_seconds: the time in which a restore should be done; older requests outrank the next higher tier.
    """

    hold_seconds: Seconds
    enough_bytes: SomeBytes = 100 * GB
    enough_items: Count = 100
    target_seconds: SomeSeconds


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallTiers:
    """The three tiers of S3."""

    expedited: RecallTier = field(
        default_factory=lambda: RecallTier(hold_seconds=0.0, target_seconds=5 * MINUTE)
    )
    standard: RecallTier = field(
        default_factory=lambda: RecallTier(hold_seconds=10 * MINUTE, target_seconds=5 * HOUR)
    )
    bulk: RecallTier = field(
        default_factory=lambda: RecallTier(hold_seconds=2 * HOUR, target_seconds=12 * HOUR)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Recall:
    """How restores are answered: ``batch_members`` are read in one go, ``days_max`` is the longest restored copy."""

    tiers: RecallTiers = field(default_factory=RecallTiers)
    batch_members: Annotated[int, Whole(1, 10_000)] = 1000
    attempts_max: Annotated[int, Whole(1, 100)] = 6
    days_max: Annotated[int, Whole(1, 36_500)] = 30_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifecycle:
    """
    How lifecycle rules of buckets are carried out.

    :ivar interval_seconds: how often to look for what is due; a part of a day that is shortened for trials, at most.
    :ivar turn_objects: objects of one bucket that are looked at before others have their turn.
    """

    interval_seconds: SomeSeconds = 15 * MINUTE
    turn_objects: Count = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """
    How archives and recalls share the drives, and how long a cartridge stays in one: idle, and while another is wanted there.

    :ivar archive_share: the part of the drives that archives have when recalls want them all: one at least, and never all.
    """

    archive_share: Annotated[float, Number(0, 1)] = 0.5
    idle_unload_seconds: Seconds = 5 * MINUTE
    max_hold_seconds: SomeSeconds = 60 * MINUTE


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualLibrary:
    """
    The library of ``coldstore-vtl``: ``directory`` null stands for ``vtl`` in the state directory.

    :ivar latency_scale: the part of a real library's time that is taken; 0 for none.
    """

    directory: AbsolutePath | None = None
    drives: Annotated[int, Whole(1, 64)] = 2
    slots: Annotated[int, Whole(1, 10_000)] = 16
    mail_slots: Annotated[int, Whole(0, 64)] = 1
    cartridges: Annotated[int, Whole(0, 10_000)] = 8
    capacity_bytes: Annotated[int, Size(at_least=64 * MIB)] = 2 * GIB
    latency_scale: Annotated[float, Number(0, 10)] = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Drive:
    """
    One drive of a real library.

    :ivar element: its number in the library, from 0.
    :ivar device: the no-rewind device, such as ``/dev/tape/by-id/scsi-SERIAL-nst``.
    :ivar generic_device: the generic SCSI device (``/dev/sgN``); null: found from ``device``.
    :ivar serial: what the drive says of itself; a different one is an error. Null: not compared.
    """

    element: Annotated[int, Whole(0, 10_000)]
    device: Device
    generic_device: Device | None = None
    serial: Annotated[str, Text(r"[!-~]{1,64}", "a serial number")] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """The programs; names are looked for on PATH. A virtual library brings its own ``mtx``, ``mt``, ``ltfs`` family."""

    mtx: Executable = "mtx"
    mt: Executable = "mt"
    ltfs: Executable = "ltfs"
    mkltfs: Executable = "mkltfs"
    ltfsck: Executable = "ltfsck"
    umount: Executable = "umount"
    fusermount: Executable = "fusermount3"
    sg_persist: Executable = "sg_persist"
    ltfs_options: tuple[Line, ...] = ()
    mkltfs_options: tuple[Line, ...] = ()
    ltfsck_options: tuple[Line, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TapeTimeouts:
    """
    How long a command on a device may take before its outcome counts as unknown.

    mtx waits 330 s for a move and 1,900 s for an inventory (mtx 1.3.12); LTO-9 drives calibrate a new cartridge for up
    to hours at its first load; ltfs gives SCSI commands up to 7,920 s.
    """

    inventory_seconds: SomeSeconds = 33 * MINUTE
    move_seconds: SomeSeconds = 330.0
    status_seconds: SomeSeconds = 3 * MINUTE
    load_seconds: SomeSeconds = 5 * MINUTE
    first_load_seconds: SomeSeconds = 3 * HOUR
    offline_seconds: SomeSeconds = 10 * MINUTE
    format_seconds: SomeSeconds = 3 * HOUR
    mount_seconds: SomeSeconds = 3 * HOUR
    check_seconds: SomeSeconds = 6 * HOUR
    unmount_seconds: SomeSeconds = 3 * HOUR
    transfer_stall_seconds: SomeSeconds = 1 * HOUR


@dataclass(frozen=True, slots=True, kw_only=True)
class Tape:
    """
    The library, its drives and the programs that work them.

    :ivar filesystem: how files lie on cartridges: in LTFS volumes, or as tar files one behind the other on plain tapes.
    :ivar changer: the control device of a real library (``/dev/tape/by-id/...-changer``).
    :ivar reservations: drives and changer of a real library are kept for this machine by SCSI persistent reservations.
    """

    library: Annotated[str, Choice(("virtual", "scsi"))] = "virtual"
    filesystem: Annotated[str, Choice(tuple(VolumeForm))] = VolumeForm.LTFS.value
    virtual: VirtualLibrary = field(default_factory=VirtualLibrary)
    changer: Device | None = None
    drives: tuple[Drive, ...] = ()
    reservations: Flag = False
    tools: Tools = field(default_factory=Tools)
    timeouts: TapeTimeouts = field(default_factory=TapeTimeouts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """One target of events; ``secret_file`` holds the key that signs each message."""

    name: Annotated[str, Text(r"[A-Za-z0-9_.-]{1,64}", "a name (letters, digits, '_', '.', '-')")]
    url: Annotated[str, Text(r"https?://[!-~]+", "an http:// or https:// address")]
    secret_file: SecretFile | None = None
    events: tuple[
        Annotated[str, Text(r"(s3:)?[A-Za-z]+(:[A-Za-z*]+)*|\*", "an event, such as s3:ObjectRestore:*")], ...
    ] = ("s3:ObjectRestore:*",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Notify:
    """Events to others, each at least once: retried with a growing pause, given up after ``give_up_seconds``."""

    webhooks: tuple[Webhook, ...] = ()
    timeout_seconds: SomeSeconds = 30.0
    pause_first_seconds: SomeSeconds = 1.0
    pause_max_seconds: SomeSeconds = 15 * MINUTE
    give_up_seconds: SomeSeconds = 3 * DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class Logging:
    """The log on standard output: lines for people or JSON objects."""

    level: Annotated[str, Choice(("debug", "info", "warn", "error", "critical"))] = "info"
    format: Annotated[str, Choice(("text", "json"))] = "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Time:
    """The length of a day in promises such as the ``Days`` of a restore or of a lifecycle rule; shorter only for trials."""

    day_seconds: Annotated[float, Duration(at_least=1, at_most=86400)] = DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """
    What secrets are protected by.

    :ivar key_file: the master key of access keys; null stands for ``master.key`` in the state directory
    :ivar data_key_file: the keys of data, of objects that are encrypted without a customer's key; null stands for ``data.keys`` there
    """

    key_file: AbsolutePath | None = None
    data_key_file: AbsolutePath | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EncryptionAtRest:
    """
    Encryption of objects with keys of the appliance (SSE-S3).

    :ivar default: what holds in buckets that say nothing, of objects whose writers say nothing
    """

    default: Annotated[str, Choice(("none", "AES256"))] = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """All settings of an appliance. The properties fill in what follows from the state directory."""

    state_directory: AbsolutePath = "/var/lib/coldstore"
    server: Server = field(default_factory=Server)
    operator: Operator = field(default_factory=Operator)
    admin: Admin = field(default_factory=Admin)
    security: Security = field(default_factory=Security)
    encryption: EncryptionAtRest = field(default_factory=EncryptionAtRest)
    metadata: Metadata = field(default_factory=Metadata)
    staging: Staging = field(default_factory=Staging)
    quotas: DefaultQuotas = field(default_factory=DefaultQuotas)
    cache: Cache = field(default_factory=Cache)
    classes: Annotated[Mapping[str, ClassSettings], CLASS_KEYS] = field(default_factory=_default_classes)
    pools: Annotated[Mapping[str, Pool], POOL_KEYS] = field(
        default_factory=lambda: MappingProxyType({"main": Pool(), "vault": Pool()})
    )
    archive: Archive = field(default_factory=Archive)
    recall: Recall = field(default_factory=Recall)
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    mount: Mount = field(default_factory=Mount)
    tape: Tape = field(default_factory=Tape)
    notify: Notify = field(default_factory=Notify)
    logging: Logging = field(default_factory=Logging)
    time: Time = field(default_factory=Time)

    @property
    def admin_socket(self) -> str:
        """Path of the operator's UNIX socket."""
        return self.admin.socket or f"{self.state_directory}/admin.sock"

    @property
    def listeners(self) -> tuple[Listener, ...]:
        """Where S3 clients are served."""
        server = self.server
        if server.endpoints:
            return tuple(listener_of(text) for text in server.endpoints)
        tls = None
        if server.tls.certificate_file is not None and server.tls.key_file is not None:
            tls = TlsFiles(certificate_file=server.tls.certificate_file, key_file=server.tls.key_file)
        return (Listener(interface=server.address, port=server.port, tls=tls),)

    @property
    def key_file(self) -> str:
        """Path of the master key of access keys."""
        return self.security.key_file or f"{self.state_directory}/master.key"

    @property
    def data_key_file(self) -> str:
        """Path of the keys of data."""
        return self.security.data_key_file or f"{self.state_directory}/data.keys"

    @property
    def sqlite_path(self) -> str:
        """Path of the embedded database."""
        return self.metadata.sqlite.path or f"{self.state_directory}/metadata.sqlite"

    @property
    def etcd_replica_path(self) -> str:
        """Path of the local replica of what is in etcd."""
        return self.metadata.etcd.replica or f"{self.state_directory}/metadata-etcd.sqlite"

    @property
    def dumps_directory(self) -> str:
        """Path of the dumps of the metadata."""
        return self.metadata.dumps.directory or f"{self.state_directory}/dumps"

    @property
    def staging_directory(self) -> str:
        """Path of the staging directory."""
        return self.staging.directory or f"{self.state_directory}/staging"

    @property
    def virtual_library_directory(self) -> str:
        """Path of the virtual library's cartridges."""
        return self.tape.virtual.directory or f"{self.state_directory}/vtl"
