"""A metadata store that fails on demand, around one that does not."""

from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import Deferred, fail
from zope.interface import alsoProvides
from zope.interface.interface import Method

from coldstore.interfaces.metadata import IMetadataStore
from coldstore.model.errors import MetadataUnavailable

_STEPS = frozenset(
    name for name, described in IMetadataStore.namesAndDescriptions() if isinstance(described, Method)
)


class FaultyStore:
    """
    Passes every step on to ``store``; the next ones of a name fail where a test has asked for it.

    A fault *before* leaves the store as it was; a fault *after* lets the step take effect and then tells the caller
    that it failed, as a connection does that is lost while the answer is on its way.
    """

    def __init__(self, store: IMetadataStore) -> None:
        self._store = store
        self._before: dict[str, list[Exception]] = {}
        self._after: dict[str, list[Exception]] = {}
        self.calls: list[str] = []
        """The names of all steps asked for, in order."""
        alsoProvides(self, IMetadataStore)

    def as_store(self) -> IMetadataStore:
        """Return this object under the name of what it provides."""
        return cast(IMetadataStore, self)

    def fail_next(self, step: str, *, took_effect: bool = False, error: Exception | None = None) -> None:
        """
        Make the next call of a step fail that has no fault yet.

        :param step: the interface method's name
        :param took_effect: whether the step is carried out nevertheless
        :param error: what it fails with, ``MetadataUnavailable`` unless given
        :raise KeyError: when the interface has no such step
        """
        if step not in _STEPS:
            raise KeyError(step)
        faults = self._after if took_effect else self._before
        faults.setdefault(step, []).append(error or MetadataUnavailable(f"{step} was made to fail"))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        value = getattr(self._store, name)
        return self._step(name, value) if name in _STEPS else value

    def _step(self, name: str, step: Callable[..., Deferred[Any]]) -> Callable[..., Deferred[Any]]:
        def passed_on(*args: Any, **kwargs: Any) -> Deferred[Any]:
            self.calls.append(name)
            if self._before.get(name):
                return fail(self._before[name].pop(0))
            answer = step(*args, **kwargs)
            if self._after.get(name):
                error = self._after[name].pop(0)
                return answer.addCallback(lambda _: fail(error))
            return answer

        return passed_on
