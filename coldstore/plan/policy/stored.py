"""
The policy of a bucket as it is kept: its own text, and the users that its principals meant when it was put.

A user who is deleted takes his rights along: somebody else who is given his name later is not who was meant.
"""

import json

from coldstore.plan.policy.document import read_bucket_policy
from coldstore.plan.policy.statements import Policy


def written(policy: Policy, bucket: str) -> str:
    """Write a policy of a bucket down."""
    users: dict[str, str] = {}
    for statement in policy.statements:
        if statement.principals is not None:
            users |= statement.principals.users
    return json.dumps({"bucket": bucket, "policy": policy.text, "users": users})


def read(text: str) -> Policy:
    """Undo ``written``."""
    kept = json.loads(text)
    users: dict[str, str] = kept["users"]
    return read_bucket_policy(kept["policy"], bucket=kept["bucket"], known=lambda kind, name: users.get(name))
