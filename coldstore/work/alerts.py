"""Alerts that follow the state of things: opened once, renewed when their sentence changes, closed when it is over."""

from twisted.internet.interfaces import IReactorTime

from coldstore.interfaces.metadata import IMetadataStore
from coldstore.model.events import Severity

OPEN_MAX = 10_000


class Alerts:
    """What this run knows to be open; writes only what changes."""

    def __init__(self, *, store: IMetadataStore, clock: IReactorTime) -> None:
        self._store = store
        self._clock = clock
        self._open: dict[tuple[str, str], str] = {}
        self._has_looked = False

    async def look(self) -> None:
        """Read what is open: an operator or an earlier run may have changed it."""
        found = await self._store.alerts(include_cleared=False, limit=OPEN_MAX)
        self._open = {(alert.kind, alert.subject): alert.sentence for alert in found}
        self._has_looked = True

    async def open(self, kind: str, subject: str, severity: Severity, sentence: str) -> None:
        """Have this alert open with this sentence."""
        if self._open.get((kind, subject)) == sentence:
            return
        # Until the record says that it is open, it may be or not.
        has_looked, self._has_looked = self._has_looked, False
        await self._store.raise_alert(
            kind=kind, subject=subject, severity=severity, sentence=sentence, at=self._clock.seconds()
        )
        self._open[kind, subject] = sentence
        self._has_looked = has_looked

    async def close(self, kind: str, subject: str) -> None:
        """Have this alert closed."""
        if (kind, subject) in self._open:
            await self._store.clear_alert(kind=kind, subject=subject, at=self._clock.seconds())
            # Somebody may have looked meanwhile.
            self._open.pop((kind, subject), None)

    @property
    def is_any_open(self) -> bool:
        """Whether any alert is known to be open, of whatever kind."""
        return bool(self._open)

    def subjects(self, kind: str) -> list[str]:
        """Return what alerts of this kind are open about."""
        return sorted(subject for open_kind, subject in self._open if open_kind == kind)

    async def follow(self, kind: str, sentences: dict[str, str], severity: Severity) -> None:
        """Like ``look`` and ``keep_only``, for a kind that nobody else opens: looks only when something is open or to be opened."""
        if sentences or not self._has_looked or self.subjects(kind):
            await self.look()
            await self.keep_only(kind, sentences, severity)

    async def keep_only(self, kind: str, sentences: dict[str, str], severity: Severity) -> None:
        """Have exactly these subjects open for a kind."""
        for subject, sentence in sorted(sentences.items()):
            await self.open(kind, subject, severity, sentence)
        for open_kind, subject in sorted(self._open):
            if open_kind == kind and subject not in sentences:
                await self.close(kind, subject)
