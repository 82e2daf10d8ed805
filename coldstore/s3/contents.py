"""
The entries of a listing, written at once.

A page has a thousand of them. Made of nodes like every other answer it took fifty times as long as reading the rows; so it
is made column by column, by what the interpreter does without a step in Python for each row.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from coldstore.model.objects import ListedObject, ListedVersion, RestorePhase
from coldstore.plan.messages import iso_time, iso_times
from coldstore.s3.xml import Written, all_escaped, url_encoded

ONGOING = RestorePhase.ONGOING.value
OWNER: Final = 7
"""Where in a row the owner's id stands."""


def contents(
    rows: Sequence[ListedObject],
    *,
    is_url_encoded: bool,
    owner: Callable[[str], str] | None,
    restores_at: float | None,
) -> Written:
    """
    Return one ``Contents`` for each row.

    :param is_url_encoded: whether keys are written as ``encoding-type=url`` wants it
    :param owner: what is written of an owner, escaped; None: nothing
    :param restores_at: the time for which the state of restores is written; None: none is
    """
    if not rows:
        return Written(())
    columns: tuple[Any, ...] = tuple(zip(*rows, strict=True))
    raw_keys, times, etags, sizes = columns[:4]
    shown = url_encoded if is_url_encoded else bytes.decode
    keys = all_escaped(list(map(shown, raw_keys)))
    # What a row says beside these four is mostly what its neighbours say: each such saying is written once.
    others = list(zip(*columns[4:], strict=True))
    written = {other: _written(other, owner, restores_at) for other in set(others)}
    return Written(
        [
            f"<Contents><Key>{key}</Key><LastModified>{time}</LastModified><ETag>&quot;{etag}&quot;</ETag>"
            f"{checksum}<Size>{size_bytes}</Size>{ending}</Contents>"
            for key, time, etag, size_bytes, (checksum, ending) in zip(
                keys, iso_times(times), etags, sizes, map(written.__getitem__, others), strict=True
            )
        ]
    )


def versions(
    rows: Sequence[ListedVersion],
    *,
    is_url_encoded: bool,
    owner: Callable[[str], str],
    restores_at: float | None,
) -> Written:
    """
    Return one ``Version`` or ``DeleteMarker`` for each row.

    :param is_url_encoded, owner, restores_at: as for ``contents``
    """
    if not rows:
        return Written(())
    shown = [row.shown for row in rows]
    keys = all_escaped([url_encoded(row[0]) if is_url_encoded else row[0].decode() for row in shown])
    written: dict[tuple[Any, ...], tuple[str, str]] = {}
    owners: dict[str, str] = {}
    parts = []
    for key, time, row in zip(keys, iso_times([row[1] for row in shown]), rows, strict=True):
        _, _, etag, size_bytes, *rest = row.shown
        is_latest = "true" if row.is_latest else "false"
        what = f"<Key>{key}</Key><VersionId>{row.version_id}</VersionId><IsLatest>{is_latest}</IsLatest>"
        if row.is_marker:
            owner_id = row.shown[OWNER]
            owned = owners.get(owner_id) or owners.setdefault(owner_id, owner(owner_id))
            parts.append(f"<DeleteMarker>{what}<LastModified>{time}</LastModified>{owned}</DeleteMarker>")
            continue
        other = tuple(rest)
        checksum, ending = written.get(other) or written.setdefault(
            other, _written(other, owner, restores_at)
        )
        parts.append(
            f"<Version>{what}<LastModified>{time}</LastModified><ETag>&quot;{etag}&quot;</ETag>"
            f"{checksum}<Size>{size_bytes}</Size>{ending}</Version>"
        )
    return Written(parts)


def _written(
    other: tuple[Any, ...], owner: Callable[[str], str] | None, restores_at: float | None
) -> tuple[str, str]:
    """Return what stands before and behind the size of a row that has these fields from ``storage_class`` on."""
    class_name, algorithm, kind, owner_id, phase, expires_at = other
    owned = "" if owner is None else owner(owner_id)
    restored = "" if phase is None or restores_at is None else _restored(phase, expires_at, restores_at)
    return _checksum(algorithm, kind), f"{owned}{restored}<StorageClass>{class_name}</StorageClass>"


def _checksum(algorithm: str | None, kind: str | None) -> str:
    if algorithm is None:
        return ""
    return f"<ChecksumAlgorithm>{algorithm}</ChecksumAlgorithm><ChecksumType>{kind}</ChecksumType>"


def _restored(phase: str, expires_at: float | None, now: float) -> str:
    if phase == ONGOING:
        return "<RestoreStatus><IsRestoreInProgress>true</IsRestoreInProgress></RestoreStatus>"
    if expires_at is None or expires_at <= now:
        return ""
    return (
        "<RestoreStatus><IsRestoreInProgress>false</IsRestoreInProgress>"
        f"<RestoreExpiryDate>{iso_time(expires_at)}</RestoreExpiryDate></RestoreStatus>"
    )
