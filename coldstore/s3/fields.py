"""The names and values of a request: its header fields and its query, decoded once and looked up in S3's way."""

from collections.abc import Iterable, Iterator
from urllib.parse import unquote_to_bytes

from coldstore.s3.errors import S3Error

USER_METADATA_PREFIX = "x-amz-meta-"
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
        for name_text, value_text in from_query:
            if name_text.lower() not in self._values:
                self._from_query.setdefault(name_text.lower(), value_text)

    def __contains__(self, name: object) -> bool:
        return name in self._values or name in self._from_query

    def names(self) -> list[str]:
        """Return every field name, lower case, headers first."""
        return [*self._values, *self._from_query]

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
                "Header values must be encoded in UTF-8.",
                details={"ArgumentName": name},
            ) from None

    def came_in_query(self, name: str) -> bool:
        """Tell whether ``name`` was given by the query of a presigned URL and not by a header."""
        return name in self._from_query

    def starting_with(self, prefix: str) -> dict[str, str]:
        """Return the fields whose names begin with ``prefix``, with their full names, in the order of arrival."""
        return {name: self.get(name) or "" for name in self.names() if name.startswith(prefix)}

    def user_metadata(self) -> tuple[tuple[str, str], ...]:
        """
        Return the ``x-amz-meta-*`` fields without the prefix, sorted by name.

        :raise S3Error: MetadataTooLarge when names and values exceed 2 KB together
        """
        pairs = sorted(
            (name.removeprefix(USER_METADATA_PREFIX), value)
            for name, value in self.starting_with(USER_METADATA_PREFIX).items()
        )
        size_bytes = sum(len(name.encode()) + len(value.encode()) for name, value in pairs)
        if size_bytes > USER_METADATA_LIMIT_BYTES:
            raise S3Error(
                "MetadataTooLarge",
                details={"Size": str(size_bytes), "MaxSizeAllowed": str(USER_METADATA_LIMIT_BYTES)},
            )
        return tuple(pairs)


class Query:
    """The query of a request target: ordered names and values, percent-decoded once, ``+`` meaning a space."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._pairs = tuple(pairs)

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

    def __contains__(self, name: object) -> bool:
        return any(own == name for own, _ in self._pairs)

    def names(self) -> frozenset[str]:
        """Return the set of all names."""
        return frozenset(name for name, _ in self._pairs)

    def one(self, name: str) -> str | None:
        """Return the first value of ``name`` (empty for a bare name), or None when it is absent."""
        return next((value for own, value in self._pairs if own == name), None)


def percent_decoded(raw: bytes) -> bytes:
    """
    Decode percent-escapes once; every other byte, ``+`` included, stands for itself.

    :raise S3Error: InvalidURI when a ``%`` is not followed by two hexadecimal digits
    """
    pieces = raw.split(b"%")
    if any(len(piece) < 2 or not _is_hex(piece[:2]) for piece in pieces[1:]):
        raise S3Error("InvalidURI")
    return unquote_to_bytes(raw)


def _is_hex(pair: bytes) -> bool:
    return all(digit in b"0123456789abcdefABCDEF" for digit in pair)


def _decoded(raw: bytes) -> str:
    try:
        return percent_decoded(raw.replace(b"+", b" ")).decode("utf-8")
    except UnicodeDecodeError:
        raise S3Error("InvalidURI") from None
