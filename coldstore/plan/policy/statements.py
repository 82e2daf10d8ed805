"""One statement of a policy, and whether it applies to a question."""

from dataclasses import dataclass
from enum import StrEnum

from coldstore.plan.policy.asked import ARN_OF_BUCKETS, Question
from coldstore.plan.policy.conditions import Condition
from coldstore.plan.policy.patterns import Pattern
from coldstore.plan.policy.principals import Principals

SHOWN_MAX = 100


class Effect(StrEnum):
    """What a statement does where it applies."""

    ALLOW = "Allow"
    DENY = "Deny"


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """
    One statement.

    :ivar number: from 1 on, in the order of the policy
    :ivar sid: its own name; empty when it has none
    :ivar principals: None in a policy of a user, who is who it is about
    :ivar excludes_principals: it is about everybody else (NotPrincipal)
    :ivar actions: all that it is about
    :ivar excludes_resources: it is about all others (NotResource)
    """

    number: int
    sid: str
    effect: Effect
    principals: Principals | None
    excludes_principals: bool
    actions: frozenset[str]
    resources: tuple[Pattern, ...]
    excludes_resources: bool
    conditions: tuple[Condition, ...]

    @property
    def title(self) -> str:
        """How messages name it."""
        return (
            f"statement {self.number} ({self.sid[:SHOWN_MAX]!r})" if self.sid else f"statement {self.number}"
        )

    def hindrance(self, question: Question) -> str | None:
        """Return the first element because of which it does not apply to a question; None: it does."""
        if question.action not in self.actions:
            return "Action"
        if not self.is_about(question.user_id):
            return "NotPrincipal" if self.excludes_principals else "Principal"
        if self._covers(question) is self.excludes_resources:
            return "NotResource" if self.excludes_resources else "Resource"
        for condition in self.conditions:
            if not condition.holds(question.circumstances, question.look_up):
                return f"Condition {condition}"
        return None

    def is_about(self, user_id: str) -> bool:
        """Tell whether it is about somebody; empty: who does not say who he is."""
        principals = self.principals
        return principals is None or principals.include(user_id) is not self.excludes_principals

    def _covers(self, question: Question) -> bool:
        return any(pattern.matches(question.resource, question.look_up) for pattern in self.resources)

    def names_bucket(self, bucket: str, question: Question) -> bool:
        """Tell whether its resources cover that of a question by the name of the bucket, and not by a wildcard in the place of that."""
        name = ARN_OF_BUCKETS + bucket
        return not self.excludes_resources and any(
            (pattern.head.startswith(name + "/") or (pattern.is_fixed and pattern.text == name))
            and pattern.matches(question.resource, question.look_up)
            for pattern in self.resources
        )

    def needs(self, beginning: str) -> bool:
        """Tell whether it depends on a condition key that begins so."""
        asked = [condition.keys for condition in self.conditions] + [
            pattern.keys for pattern in self.resources
        ]
        return any(key.startswith(beginning) for keys in asked for key in keys)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Policy:
    """
    The statements of a policy.

    :ivar text: the policy as it was written
    """

    text: str
    statements: tuple[Statement, ...]

    def first(self, effect: Effect, question: Question) -> Statement | None:
        """Return the first statement of an effect that applies to a question."""
        for statement in self.statements:
            if statement.effect is effect and statement.hindrance(question) is None:
                return statement
        return None

    def allows_anything(self) -> bool:
        """Tell whether any statement allows something."""
        return any(statement.effect is Effect.ALLOW for statement in self.statements)

    def may_allow(self, user_id: str, actions: frozenset[str]) -> bool:
        """Tell whether any statement allows somebody (empty: who does not say who he is) one of these actions, on something and under some conditions."""
        return any(
            statement.effect is Effect.ALLOW
            and statement.is_about(user_id)
            and not actions.isdisjoint(statement.actions)
            for statement in self.statements
        )

    def needs(self, beginning: str, action: str) -> bool:
        """Tell whether anything about an action depends on a condition key that begins so."""
        return any(
            action in statement.actions and statement.needs(beginning) for statement in self.statements
        )
