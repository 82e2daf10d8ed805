"""What an operator says a user may do."""

from typing import NamedTuple

POLICIES_MAX = 10
"""What one user may have at once."""


class UserPolicy(NamedTuple):
    """A policy of a user: the name under which the operator put it, and the policy as JSON (``coldstore.plan.policy``)."""

    name: str
    document: str
