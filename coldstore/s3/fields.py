"""The names and values of a request: its header fields and its query, decoded once and looked up in S3's way."""

from collections.abc import Iterable, Iterator
from urllib.parse import unquote_to_bytes

from coldstore.s3.errors import S3Error

AMZ_PREFIX = "x-amz-"
USER_METADATA_PREFIX = "x-amz-meta-"
SERVER_SIDE_ENCRYPTION = "x-amz-server-side-encryption"
"""Asks for an object to be encrypted with a key of ours, and tells that it is."""
CUSTOMER_KEY_PREFIX = "x-amz-server-side-encryption-customer-"
"""Of the fields that bring the key of an object."""
SOURCE_KEY_PREFIX = "x-amz-copy-source-server-side-encryption-customer-"
"""The same of the source of a copy."""
USER_METADATA_LIMIT_BYTES = 2048
"""Names (without the prefix) and values together; S3 User Guide, "Working with object metadata"."""


class HeaderFields:
    """
    The header fields of one request, looked up by lower-case name.

    Values are kept as the bytes that came; text is UTF-8. Fields that a presigned URL carries in its query take
    part as if they had been headers, unless a real header of the same name is there.
    """

    def __init__(
        self, fields: Iterable[tuple[bytes, bytes]], from_query: Iterable[tuple[str, str]] = ()
    ) -> None:
        """
        :param fields: name and value of each header line, in the order of arrival
        :param from_query: ``x-amz-*`` pairs of a presigned URL
        """
        self._values: dict[str, list[bytes]] = {}
        for name, value in fields:
            self._values.setdefault(name.decode("latin-1").lower(), []).append(value)
        self._from_query: dict[str, str] = {}
        self._amz_names: list[str] | None = None
        self._take_from_query(from_query)

    @classmethod
    def of(cls, values: dict[str, list[bytes]]) -> "HeaderFields":
        """Return fields whose values are sorted by lower-case name already."""
        fields = cls.__new__(cls)
        fields._values = values
        fields._from_query = {}
        fields._amz_names = None
        return fields

    def joined(self, from_query: Iterable[tuple[str, str]]) -> "HeaderFields":
        """Return the same fields, and those of the query."""
        fields = HeaderFields.of(self._values)
        fields._take_from_query(from_query)
        return fields

    def _take_from_query(self, from_query: Iterable[tuple[str, str]]) -> None:
        for name, value in from_query:
            if name.lower() not in self._values:
                self._from_query.setdefault(name.lower(), value)

    def __contains__(self, name: object) -> bool:
        return name in self._values or name in self._from_query

    def names(self) -> list[str]:
        """Return every field name, lower case, headers first."""
        return [*self._values, *self._from_query]

    def amz_names(self) -> list[str]:
        """Return those of ``names`` that begin with ``x-amz-``; found once, as every part of a request looks among them."""
        if self._amz_names is None:
            self._amz_names = [name for name in self.names() if name.startswith(AMZ_PREFIX)]
        return self._amz_names

    def has_any(self, names: frozenset[str]) -> bool:
        """Tell whether any of these fields was given."""
        return not (names.isdisjoint(self._values) and names.isdisjoint(self._from_query))

    def names_key(self, beginning: str) -> bool:
        """Tell whether anything is said of a customer's key; ``beginning`` is one of the two that such fields have."""
        # Asked of every request that reads: a generator would take twice as long.
        for name in self.amz_names():  # noqa: SIM110
            if name.startswith(beginning):
                return True
        return False

    def came_in_header(self, name: str) -> bool:
        """Tell whether ``name`` was given by a header line."""
        return name in self._values

    def raw(self, name: str) -> list[bytes]:
        """Return the values of the header lines called ``name`` exactly as sent; empty when there is none."""
        return self._values.get(name, [])

    def get(self, name: str) -> str | None:
        """
        Return the value of ``name``, repeated lines joined by ``,``; None when absent.

        :raise S3Error: InvalidArgument when the value is not UTF-8
        """
        lines = self._values.get(name)
        if lines is None:
            return self._from_query.get(name)
        try:
            return b",".join(lines).decode("utf-8")
        except UnicodeDecodeError:
            raise S3Error(
                "InvalidArgument",
                f"Header values must be encoded in UTF-8: that of {name} is not.",
                details={"ArgumentName": name},
            ) from None

    def came_in_query(self, name: str) -> bool:
        """Tell whether ``name`` was given by the query of a presigned URL and not by a header."""
        return name in self._from_query

    def lines(self) -> Iterator[tuple[str, bytes]]:
        """Return name and value of each header line; lines of the same name stand together."""
        for name, values in self._values.items():
            for value in values:
                yield name, value

    def user_metadata(self) -> tuple[tuple[str, str], ...]:
        """
        Return the ``x-amz-meta-*`` fields without the prefix, sorted by name.

        :raise S3Error: MetadataTooLarge when names and values exceed 2 KB together
        """
        pairs = sorted(
            (name.removeprefix(USER_METADATA_PREFIX), self.get(name) or "")
            for name in self.amz_names()
            if name.startswith(USER_METADATA_PREFIX)
        )
        size_bytes = sum(len(name.encode()) + len(value.encode()) for name, value in pairs)
        if size_bytes > USER_METADATA_LIMIT_BYTES:
            raise S3Error(
                "MetadataTooLarge",
                f"Your metadata headers exceed the maximum allowed metadata size: names and values have {size_bytes} bytes, "
                f"and may have {USER_METADATA_LIMIT_BYTES}.",
                details={"Size": str(size_bytes), "MaxSizeAllowed": str(USER_METADATA_LIMIT_BYTES)},
            )
        return tuple(pairs)


class Query:
    """The query of a request target: ordered names and values, percent-decoded once, ``+`` meaning a space."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._pairs = tuple(pairs)
        self._first = dict(reversed(self._pairs))

    @classmethod
    def parse(cls, raw: bytes) -> "Query":
        """
        Read the part of a request target after ``?``.

        :raise S3Error: InvalidURI for a broken percent-escape or a name or value that is not UTF-8
        """
        pairs = []
        for item in raw.split(b"&"):
            if item:
                name, _, value = item.partition(b"=")
                pairs.append((_decoded(name), _decoded(value)))
        return cls(pairs)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def __contains__(self, name: object) -> bool:
        return name in self._first

    def has_any(self, names: frozenset[str]) -> bool:
        """Tell whether any of these names is there."""
        return not names.isdisjoint(self._first)

    def names(self) -> frozenset[str]:
        """Return the set of all names."""
        return frozenset(self._first)

    def one(self, name: str) -> str | None:
        """Return the first value of ``name`` (empty for a bare name), or None when it is absent."""
        return self._first.get(name)


def percent_decoded(raw: bytes) -> bytes:
    """
    Decode percent-escapes once; every other byte, ``+`` included, stands for itself.

    :raise S3Error: InvalidURI when a ``%`` is not followed by two hexadecimal digits
    """
    if b"%" not in raw:
        return raw
    pieces = raw.split(b"%")
    if any(len(piece) < 2 or not _is_hex(piece[:2]) for piece in pieces[1:]):
        raise S3Error(
            "InvalidURI", "Couldn't parse the specified URI: a % is not followed by two hexadecimal digits."
        )
    return unquote_to_bytes(raw)


def _is_hex(pair: bytes) -> bool:
    return all(digit in b"0123456789abcdefABCDEF" for digit in pair)


def _decoded(raw: bytes) -> str:
    try:
        return percent_decoded(raw.replace(b"+", b" ")).decode("utf-8")
    except UnicodeDecodeError:
        raise S3Error("InvalidURI", "Couldn't parse the specified URI: its query is not UTF-8.") from None
