"""A request's body becomes a piece on disk, verified; or nothing."""

from typing import NamedTuple, Protocol

from twisted.internet.defer import Deferred

from coldstore.interfaces.staging import DiskFault, IStaging
from coldstore.model.objects import Checksum, Piece
from coldstore.s3.admission import Admitted
from coldstore.s3.body import BodySink, RequestBody
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
    """Bytes that are durable and are what the client meant. ``address`` is empty when there are none."""

    address: str
    length_bytes: int
    crc64nvme: int
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
            details={"ProposedSize": str(size_bytes), "MaxSizeAllowed": str(SINGLE_PUT_MAX_BYTES)},
        )
    return size_bytes


async def receive(staging: IStaging, body: ArrivingBytes, plan: IntegrityPlan, admitted: Admitted) -> Arrived:
    """
    Have the client send its body and keep it.

    :param admitted: for the length of the body, or the most that it can be
    :raise S3Error: what was sent is not what was promised; nothing is kept
    :raise StagingFull: before the client is asked for the body
    :raise DiskFault: the disk failed
    :raise BodyAborted: the client has gone; nothing is kept
    """
    if admitted.size_bytes == 0:
        return await _receive_nothing(body, plan)
    incoming = admitted.receive(plan.algorithms)
    try:
        received = await body.stream_to(incoming)
        if received.length_bytes == 0:
            await incoming.abandon()
            return _nothing(received, plan)
        if received.length_bytes < admitted.size_bytes:
            incoming.shorten()
        kept = await incoming.finish()
    except Exception:
        await incoming.abandon()
        raise
    try:
        checksum = plan.check(kept.digests, received)
    except S3Error:
        await discard(staging, kept.address)
        raise
    return Arrived(
        address=kept.address,
        length_bytes=kept.length_bytes,
        crc64nvme=kept.crc64nvme,
        etag=kept.digests["md5"].hex(),
        checksum=checksum,
    )


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
    return Arrived(address="", length_bytes=0, crc64nvme=0, etag=digests["md5"].hex(), checksum=checksum)


class _Nothing:
    """The sink of a body without bytes."""

    def write(self, block: bytes) -> None:
        """Take nothing: ``stream_to`` refuses bytes beyond the promised length before they get here."""

    def on_pressure(self, pause: object, resume: object) -> None:
        """Never press."""
