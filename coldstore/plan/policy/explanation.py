"""Why somebody may do something or not: the decision, and everything that was considered for it."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from coldstore.plan.policy.asked import Question
from coldstore.plan.policy.decision import Decision, Policies
from coldstore.plan.policy.statements import Policy


class Considered(NamedTuple):
    """
    One statement.

    :ivar source: what it is a statement of
    :ivar hindrance: the first element because of which it does not apply; empty: it does
    """

    source: str
    title: str
    effect: str
    hindrance: str


class Given(NamedTuple):
    """Circumstances that are said beforehand: values by condition key (``plain_key``)."""

    by_key: Mapping[str, tuple[str, ...]]

    def values(self, key: str) -> tuple[str, ...]:
        """See ``Circumstances``."""
        return self.by_key.get(key, ())


def explained(policies: Policies, question: Question) -> tuple[Decision, Sequence[Considered]]:
    """Return the decision, and what each statement of all policies says."""
    known: list[tuple[str, Policy]] = [(read.title, read.policy) for read in policies.of_user]
    if policies.of_bucket is not None:
        known.append(("the bucket's policy", policies.of_bucket))
    considered = [
        Considered(source, statement.title, statement.effect.value, statement.hindrance(question) or "")
        for source, policy in known
        for statement in policy.statements
    ]
    return policies.decide(question), considered
