"""Watches quotas: tells the operator whose are nearly used up, before uploads are refused for it."""

from twisted.internet.interfaces import IReactorTime

from coldstore.interfaces.metadata import IMetadataStore
from coldstore.model.events import Severity
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
            subject = f"quota of {standing.whose}"
            kinds = standing.nearly_full(was_told=subject in told)
            if kinds and len(sentences) < TOLD_MAX:
                names = " and ".join(kind.value for kind in kinds)
                options = " ".join(f"--{kind.value}" for kind in kinds)
                sentences[subject] = (
                    f"{NEARLY_FULL:.0%} of what {standing.whose} may have of {names} is used; when all is, more is refused. "
                    f"`coldstore quota` shows what there is, `coldstore {standing.noun} quota {standing.name} {options}` gives more"
                )
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
