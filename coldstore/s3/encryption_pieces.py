"""
How the bytes of an encrypted object are stored: each piece by itself, in chunks that each prove what they are.

A piece (a plain PUT, or a part) is a header and its chunks, each a little longer than the bytes in it. Its key is made from the
object's, from the salt in its header, so that no two pieces ever have the same, and from the number of its part, so that parts are not
exchanged; the nonce of a chunk is its number and whether it is the last one, so that chunks which are changed, exchanged, repeated
or missing are found. (Pieces of the first version do not have the number in them.) The recipe, for those who have
nothing but a tape, is in ``coldstore/ontape/FORMAT.md``.
"""

from struct import Struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from coldstore.util.checksums import Buffer
from coldstore.util.envelopes import SALT_BYTES, derived_key

CHUNK_BYTES = 64 * 1024
"""What a chunk holds; others are read as well."""
TAG_BYTES = 16
WHOLE = 0
"""In place of the number of its part, of a piece that is all of an object which was not uploaded in parts."""
_UNNUMBERED = b"CSSSE-C\x01"
"""What pieces of the first version begin with: in place of the number of the part they have zeros."""
_MAGIC = b"CSSSE-C\x02"
_HEADER = Struct(f">8sII{SALT_BYTES}s")
_NONCE = Struct(">Q3xB")
_PIECE_INFO = b"coldstore sse-c piece 1"
HEADER_BYTES = _HEADER.size


class ChunkDamaged(Exception):
    """Stored bytes are not what was sealed under this key."""


def chunk_count(plain_bytes: int, chunk_bytes: int) -> int:
    """Return how many chunks so many bytes fill."""
    return -(-plain_bytes // chunk_bytes)


def stored_bytes(plain_bytes: int, chunk_bytes: int) -> int:
    """Return how long the piece of so many bytes is; where there is nothing, nothing is stored."""
    if plain_bytes == 0:
        return 0
    return HEADER_BYTES + plain_bytes + TAG_BYTES * chunk_count(plain_bytes, chunk_bytes)


def plain_bytes(stored: int, chunk_bytes: int) -> int:
    """
    Undo ``stored_bytes``.

    :raise ValueError: no piece is so long
    """
    if stored == 0:
        return 0
    chunks = -(-(stored - HEADER_BYTES) // (chunk_bytes + TAG_BYTES))
    found = stored - HEADER_BYTES - TAG_BYTES * chunks
    if found <= 0 or stored_bytes(found, chunk_bytes) != stored:
        raise ValueError(f"no encrypted piece has {stored} bytes")
    return found


def new_header(salt: bytes, chunk_bytes: int = CHUNK_BYTES, part_number: int = WHOLE) -> bytes:
    """Return the header of a new piece; its ``salt`` must be new as well."""
    assert len(salt) == SALT_BYTES
    return _HEADER.pack(_MAGIC, chunk_bytes, part_number, salt)


class PieceCipher:
    """
    Seals and opens the chunks of one piece; may be used in any thread, by one at a time.

    The cipher is given ``bytes`` (cryptography 38 takes nothing else); which is no copy where they are such already.
    """

    def __init__(self, object_key: bytes, header: bytes, chunk_bytes: int, part_number: int = WHOLE) -> None:
        """
        :param header: as ``new_header`` made it
        :param chunk_bytes: that of the object's record
        :param part_number: the same
        :raise ChunkDamaged: it is no header, or one of other chunks, or of another part
        """
        if len(header) != HEADER_BYTES:
            raise ChunkDamaged("the header is cut off")
        magic, said_bytes, said_number, salt = _HEADER.unpack(header)
        if magic not in (_MAGIC, _UNNUMBERED) or said_bytes != chunk_bytes:
            raise ChunkDamaged("the header is not that of a piece with such chunks")
        if magic == _MAGIC and said_number != part_number:
            raise ChunkDamaged(f"the header is that of part {said_number}, and not of {part_number}")
        # All of the header is in the key: of its bytes none can change without being noticed.
        self._cipher = AESGCM(derived_key(object_key, salt, _PIECE_INFO + header[:-SALT_BYTES]))

    def seal(self, index: int, chunk: Buffer, *, is_last: bool) -> bytes:
        """Return a chunk as it is stored. Never call twice for one ``index``."""
        return self._cipher.encrypt(_NONCE.pack(index, is_last), bytes(chunk), None)

    def open(self, index: int, stored: Buffer, *, is_last: bool) -> bytes:
        """
        Undo ``seal``.

        :raise ChunkDamaged: it is not what ``seal`` returned for this place
        """
        if len(stored) < TAG_BYTES:
            raise ChunkDamaged(f"chunk {index} is cut off")
        try:
            return self._cipher.decrypt(_NONCE.pack(index, is_last), bytes(stored), None)
        except InvalidTag:
            raise ChunkDamaged(f"chunk {index} is not what was sealed") from None
