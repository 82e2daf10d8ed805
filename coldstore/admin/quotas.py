"""Quotas as an operator orders them, and how all users and buckets stand."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from coldstore.admin import views
from coldstore.admin.asking import BadRequest
from coldstore.admin.quotatext import quota_field
from coldstore.interfaces.metadata import IMetadataStore
from coldstore.model.quotas import UNLIMITED, QuotaKind
from coldstore.plan.quota import DefaultQuotas, Standing, standing_of_bucket, standing_of_user

FIELDS: Mapping[str, QuotaKind] = MappingProxyType({quota_field(kind): kind for kind in QuotaKind})
"""By the field of an order, the quota that it sets."""
PAGE = 1000
SHOWN_MAX = 1000
"""Users and buckets that are shown at once, and have metrics of their own: those of whose quotas most is used."""


def quotas_of(document: Mapping[str, Any]) -> Mapping[QuotaKind, int | None]:
    """
    Return the quotas that an order sets: numbers, null for the default, or "unlimited".

    :raise BadRequest: it sets none, or to what can be none
    """
    given = {kind: _quota(name, document[name]) for name, kind in FIELDS.items() if name in document}
    if not given:
        raise BadRequest(f"say which quota, as one or several of {', '.join(FIELDS)}")
    return given


def _quota(name: str, value: object) -> int | None:
    if value == "unlimited":
        return UNLIMITED
    if value is None:
        return None
    if type(value) is not int or not 0 <= value <= UNLIMITED:
        raise BadRequest(f'{name} must be a number, null for the default, or "unlimited"')
    return value


def quotas_text(quotas: Mapping[QuotaKind, int | None]) -> str:
    """Return quotas as the audit trail has them."""
    return ", ".join(
        f"{kind.value} {'default' if quota is None else views.quota_text(kind, quota)}"
        for kind, quota in quotas.items()
    )


class Standings:
    """Knows how everybody stands."""

    def __init__(self, *, store: IMetadataStore, defaults: DefaultQuotas) -> None:
        self._store = store
        self._defaults = defaults

    async def all(self) -> list[Standing]:
        """Return how all users and then all buckets stand, by name."""
        found = [
            standing_of_user(user, use, self._defaults) for user, use in await self._store.uses_of_users()
        ]
        after = ""
        while page := await self._store.uses_of_buckets(after=after, limit=PAGE):
            found += [standing_of_bucket(bucket, use, self._defaults) for bucket, use in page]
            after = page[-1][0].name
        return found
