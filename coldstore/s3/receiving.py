"""A request's body becomes a piece on disk, verified; or nothing."""

from typing import NamedTuple, Protocol

from twisted.internet.defer import Deferred

from coldstore.interfaces.staging import DiskFault, IStaging
from coldstore.model.objects import Checksum, Piece
from coldstore.s3.admission import Admitted
from coldstore.s3.body import BodySink, RequestBody
from coldstore.s3.encryption import Sealing
from coldstore.s3.encryption_receiving import SealingSink
from coldstore.s3.errors import S3Error
from coldstore.s3.integrity import IntegrityPlan, ReceivedBody
from coldstore.util.checksums import new_digest

SINGLE_PUT_MAX_BYTES = 5 * 1024**3
"""Most that one PUT, one part or one copy may carry (S3 User Guide, "Amazon S3 multipart upload limits")."""


class ArrivingBytes(Protocol):
    """Where a piece comes from: the body of a request, or the file in a form."""

    def stream_to(self, sink: BodySink) -> "Deferred[ReceivedBody]":
        """Have the client send the bytes; see ``RequestBody.stream_to``."""


class Arrived(NamedTuple):
    """
    Bytes that are durable and are what the client meant. ``address`` is empty when there are none.

    ``length_bytes`` and ``crc64nvme`` are of what is on the disk, ``content_bytes`` and ``content_crc64nvme`` of what the client
    sent: of encrypted bytes these are others.
    """

    address: str
    length_bytes: int
    content_bytes: int
    crc64nvme: int
    content_crc64nvme: int
    etag: str
    checksum: Checksum

    def piece(self, ordinal: int, at: float) -> Piece:
        """Return them as a piece of a layout."""
        return Piece(
            ordinal=ordinal,
            address=self.address,
            length_bytes=self.length_bytes,
            crc64nvme=self.crc64nvme,
            etag=self.etag,
            checksum=self.checksum,
            created_at=at,
        )


def check_size(body: RequestBody) -> int:
    """
    Return the length that the headers of an upload promise.

    :raise S3Error: MissingContentLength, EntityTooLarge
    """
    size_bytes = body.length_bytes
    if size_bytes > SINGLE_PUT_MAX_BYTES:
        raise S3Error(
            "EntityTooLarge",
            f"Your proposed upload of {size_bytes} bytes exceeds the maximum allowed size of one request, "
            f"{SINGLE_PUT_MAX_BYTES} bytes: upload it in parts.",
            details={"ProposedSize": str(size_bytes), "MaxSizeAllowed": str(SINGLE_PUT_MAX_BYTES)},
        )
    return size_bytes


async def receive(
    staging: IStaging,
    body: ArrivingBytes,
    plan: IntegrityPlan,
    admitted: Admitted,
    sealing: Sealing | None = None,
) -> Arrived:
    """
    Have the client send its body and keep it.

    :param admitted: for the length of the body, or the most that it can be, as it will be stored
    :param sealing: how it is to be encrypted; None: not at all
    :raise S3Error: what was sent is not what was promised; nothing is kept
    :raise StagingFull: before the client is asked for the body
    :raise DiskFault: the disk failed
    :raise BodyAborted: the client has gone; nothing is kept
    """
    if admitted.size_bytes == 0:
        return await _receive_nothing(body, plan)
    incoming = admitted.receive(plan.algorithms if sealing is None else stored_algorithms(sealing))
    sealed = None if sealing is None else SealingSink(incoming, sealing, plain_algorithms(plan, sealing))
    try:
        received = await body.stream_to(incoming if sealed is None else sealed)
        if received.length_bytes == 0:
            await incoming.abandon()
            return _nothing(received, plan)
        digests = None if sealed is None else await sealed.finish()
        if (received.length_bytes if sealed is None else sealed.stored_bytes) < admitted.size_bytes:
            incoming.shorten()
        kept = await incoming.finish()
    except Exception:
        await incoming.abandon()
        raise
    shows_md5 = sealing is not None and sealing.shows_md5
    try:
        checksum = plan.check(kept.digests if digests is None else digests, received)
    except Exception:
        await discard(staging, kept.address)
        raise
    return Arrived(
        address=kept.address,
        length_bytes=kept.length_bytes,
        content_bytes=received.length_bytes,
        crc64nvme=kept.crc64nvme,
        content_crc64nvme=kept.crc64nvme if digests is None else int.from_bytes(digests["crc64nvme"], "big"),
        etag=(kept.digests if digests is None or not shows_md5 else digests)["md5"].hex(),
        checksum=checksum,
    )


def stored_algorithms(sealing: Sealing) -> frozenset[str]:
    """Return the digests to take of encrypted bytes: their MD5 where it is the ETag, which says nothing of the bytes that the client knows."""
    return frozenset() if sealing.shows_md5 else frozenset({"md5"})


def plain_algorithms(plan: IntegrityPlan, sealing: Sealing) -> frozenset[str]:
    """Return the digests to take of bytes before they are encrypted."""
    wants_md5 = sealing.shows_md5 or plan.md5 is not None or plan.algorithm == "md5"
    needed = plan.algorithms if wants_md5 else plan.algorithms - {"md5"}
    return needed | {"crc64nvme"}


async def discard(staging: IStaging, address: str) -> None:
    """Free a piece that no row refers to; a disk that cannot is left to the sweep at the next start."""
    try:
        await staging.discard([address])
    except DiskFault:
        return


async def _receive_nothing(body: ArrivingBytes, plan: IntegrityPlan) -> Arrived:
    return _nothing(await body.stream_to(_Nothing()), plan)


def _nothing(received: ReceivedBody, plan: IntegrityPlan) -> Arrived:
    digests = {name: new_digest(name).digest() for name in plan.algorithms}
    checksum = plan.check(digests, received)
    return Arrived(
        address="",
        length_bytes=0,
        content_bytes=0,
        crc64nvme=0,
        content_crc64nvme=0,
        etag=digests["md5"].hex(),
        checksum=checksum,
    )


class _Nothing:
    """The sink of a body without bytes."""

    def write(self, block: bytes) -> None:
        """Take nothing: ``stream_to`` refuses bytes beyond the promised length before they get here."""

    def on_pressure(self, pause: object, resume: object) -> None:
        """Never press."""
