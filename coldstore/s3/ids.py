"""The two ids that every answer carries, so that a client's complaint finds its line in the log."""

from base64 import b64encode
from random import Random
from typing import NamedTuple


class RequestIds(NamedTuple):
    """``request_id`` names one request (``x-amz-request-id``), ``host_id`` the process (``x-amz-id-2``)."""

    request_id: str
    host_id: str


class IdSource:
    """Draws request ids."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._host_id = b64encode(random.randbytes(36)).decode("ascii")

    def next(self) -> RequestIds:
        """Return fresh ids: 16 upper-case hexadecimal digits, as S3's look."""
        return RequestIds(request_id=f"{self._random.getrandbits(64):016X}", host_id=self._host_id)
