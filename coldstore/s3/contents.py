"""
The entries of a listing, written at once.

A page has a thousand of them. Made of nodes like every other answer it took fifty times as long as reading the rows; so it
is made column by column, by what the interpreter does without a step in Python for each row.
"""

from collections.abc import Callable, Sequence
from typing import Any

from coldstore.model.objects import ListedObject, RestorePhase
from coldstore.plan.messages import iso_time, iso_times
from coldstore.s3.xml import Written, all_escaped, url_encoded

ONGOING = RestorePhase.ONGOING.value


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
