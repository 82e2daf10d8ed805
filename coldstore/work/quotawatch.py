"""Watches quotas: tells the operator whose are nearly used up, before uploads are refused for it."""

from twisted.internet.interfaces import IReactorTime

from coldstore.interfaces.metadata import IMetadataStore
from coldstore.model.events import Severity
from coldstore.model.quotas import QuotaKind
from coldstore.plan.quota import (
    NEARLY_FULL,
    DefaultQuotas,
    Standing,
    fullest_first,
    standing_of_bucket,
    standing_of_user,
)
from coldstore.work.alerts import Alerts

REST_SECONDS = 300.0
KIND = "quota-nearly-full"
TOLD_MAX = 100
"""Of more users and buckets than this nobody reads: the fullest ones are told."""
PAGE = 1000


class QuotaWatch:
    """One round looks at all quotas, and opens and closes alerts."""

    def __init__(self, *, store: IMetadataStore, clock: IReactorTime, defaults: DefaultQuotas) -> None:
        self._store = store
        self._defaults = defaults
        self._alerts = Alerts(store=store, clock=clock)

    async def one_round(self) -> float:
        """Look once; return how long to rest."""
        told = set(self._alerts.subjects(KIND))
        sentences: dict[str, str] = {}
        for standing in fullest_first(await self._standings()):
            for kind in QuotaKind:
                subject = f"{kind.value} quota of {standing.whose}"
                is_full = standing.is_nearly_full(kind, was_told=subject in told)
                if is_full and len(sentences) < TOLD_MAX:
                    sentences[subject] = _sentence(standing, kind)
        await self._alerts.follow(KIND, sentences, Severity.WARNING)
        return REST_SECONDS

    async def _standings(self) -> list[Standing]:
        found = [
            standing_of_user(user, use, self._defaults) for user, use in await self._store.uses_of_users()
        ]
        after = ""
        while page := await self._store.uses_of_buckets(after=after, limit=PAGE):
            found += [standing_of_bucket(bucket, use, self._defaults) for bucket, use in page]
            after = page[-1][0].name
        return found


def _sentence(standing: Standing, kind: QuotaKind) -> str:
    # Not how much is used: the alert would be renewed with every object.
    return (
        f"{NEARLY_FULL:.0%} of what {standing.whose} may have is used ({kind.value}); when all is, more is refused. "
        f"`coldstore quota` shows how it stands, `coldstore {standing.noun} quota {standing.name} --{kind.value}` gives more"
    )
