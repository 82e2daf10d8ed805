"""
The entries of a listing, written at once.

A page has a thousand of them. Made of nodes like every other answer it took fifty times as long as reading the rows.
"""

from collections.abc import Callable, Sequence

from coldstore.model.objects import ListedObject, RestorePhase
from coldstore.plan.messages import iso_time
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
    shown = url_encoded if is_url_encoded else bytes.decode
    keys = all_escaped(list(map(shown, [row[0] for row in rows])))
    # Neighbours mostly have the same kind of checksum.
    checksum, its_algorithm, its_kind = "", None, None
    owners: dict[str, str] = {}
    written = []
    for key, row in zip(keys, rows, strict=True):
        _, created_at, etag, size_bytes, class_name, algorithm, kind, owner_id, phase, expires_at = row
        if algorithm != its_algorithm or kind != its_kind:
            checksum, its_algorithm, its_kind = _checksum(algorithm, kind), algorithm, kind
        owned = ""
        if owner is not None:
            owned = owners.get(owner_id) or owners.setdefault(owner_id, owner(owner_id))
        restored = "" if phase is None or restores_at is None else _restored(phase, expires_at, restores_at)
        written.append(
            f"<Contents><Key>{key}</Key><LastModified>{iso_time(created_at)}</LastModified>"
            f"<ETag>&quot;{etag}&quot;</ETag>{checksum}<Size>{size_bytes}</Size>{owned}{restored}"
            f"<StorageClass>{class_name}</StorageClass></Contents>"
        )
    return Written("".join(written))


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
