"""
Quotas for people: what the command says of them. Pure: it takes the answers of the appliance and returns text.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from coldstore.model.quotas import QuotaKind
from coldstore.util.tables import printable, size, table

QUOTA_MEANINGS: Mapping[QuotaKind, str] = MappingProxyType(
    {
        QuotaKind.STAGED: "what may lie on the staging disk at once",
        QuotaKind.KEPT: "what all versions may have, on disk or tape",
        QuotaKind.RESTORES: "what restores may have at once, under way and not yet expired",
        QuotaKind.OBJECTS: "how many versions there may be",
    }
)
_ORDER = (QuotaKind.KEPT, QuotaKind.OBJECTS, QuotaKind.RESTORES, QuotaKind.STAGED)


def quota_field(kind: QuotaKind) -> str:
    """Return the field of an order that sets a quota."""
    return f"{kind.value}_{_unit(kind)}"


def quota_page(row: Mapping[str, Any]) -> str:
    """Return what one user or bucket has and may have."""
    lines = [
        {"quota of": kind.value, "used": _used(row, kind), "may have": row[f"{kind.value}_quota"]}
        for kind in _ORDER
    ]
    return f"{printable(row.get('bucket') or row['name'])}\n{table(lines, list(lines[0]))}"


def quota_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return what users and buckets have and may have, one in each line."""
    lines = [
        {
            "of": row["of"],
            "name": row["name"],
            "fullest": "" if row["fullest"] is None else f"{row['fullest']:.0%}",
            **{kind.value: f"{_used(row, kind)} of {row[f'{kind.value}_quota']}" for kind in _ORDER},
        }
        for row in rows
    ]
    return table(lines, ["of", "name", "fullest", *(kind.value for kind in _ORDER)])


def _used(row: Mapping[str, Any], kind: QuotaKind) -> str:
    used = row[f"{kind.value}_used_{_unit(kind)}"]
    return size(used) if kind.is_of_bytes else str(used)


def _unit(kind: QuotaKind) -> str:
    return "bytes" if kind.is_of_bytes else "count"
