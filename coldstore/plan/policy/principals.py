"""
Principals: whom a statement is about.

Every user here is an account of his own, whose id is his canonical id; so these all mean the user alice: ``arn:aws:iam::ID:user/alice``,
``arn:aws:iam:::user/alice``, ``arn:aws:iam::ID:root``, the bare ``ID``, and as ``CanonicalUser`` the ``ID``. Source: Amazon S3 User Guide, "Principals for
bucket policies"; IAM User Guide, "AWS JSON policy elements: Principal".
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from coldstore.model.objects import User
from coldstore.plan.policy.errors import MalformedPolicy

EVERYBODY = "*"
AWS, CANONICAL = "AWS", "CanonicalUser"
KINDS = (AWS, CANONICAL)
SHOWN_MAX = 100
_ARN = re.compile(r"arn:aws:iam::(?P<account>[^:]*):(?:root|user/(?P<name>.+))", re.DOTALL)

Known = Callable[[str, str], str | None]
"""From the kind of a principal and how it is written to the id of the user; None: there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Principals:
    """
    Whom an element names.

    :ivar everybody: also who does not say who he is
    :ivar user_ids: of those who are named
    :ivar users: the same by how they were written
    """

    everybody: bool
    users: Mapping[str, str]
    user_ids: frozenset[str]

    def include(self, user_id: str) -> bool:
        """Tell whether somebody is named."""
        return self.everybody or user_id in self.user_ids


def read_principals(element: object, known: Known) -> Principals:
    """
    Read a Principal or a NotPrincipal.

    :raise MalformedPolicy: for what is neither ``*`` nor names users that there are
    """
    if element == EVERYBODY:
        return Principals(everybody=True, users={}, user_ids=frozenset())
    if not isinstance(element, dict) or not element:
        raise MalformedPolicy(
            f'Invalid principal in policy: it is "*", or an object of {" and ".join(KINDS)}'
        )
    users: dict[str, str] = {}
    everybody = False
    for kind, value in element.items():
        if kind not in KINDS:
            raise MalformedPolicy(
                f"Invalid principal in policy: {kind[:SHOWN_MAX]!r} is none of {' and '.join(KINDS)}, which are what there is here"
            )
        texts = value if isinstance(value, list) else [value]
        if not texts:
            raise MalformedPolicy(f"Invalid principal in policy: the list of {kind} is empty")
        for text in texts:
            if text == EVERYBODY and kind == AWS:
                everybody = True
                continue
            user_id = known(kind, text) if isinstance(text, str) else None
            if user_id is None:
                raise MalformedPolicy(f"Invalid principal in policy: {_shown(kind, text)} is no user here")
            users[text] = user_id
    return Principals(everybody=everybody, users=users, user_ids=frozenset(users.values()))


def _shown(kind: str, text: object) -> str:
    return f"{kind} {str(text)[:SHOWN_MAX]!r}"


def user_arn(user_id: str, name: str) -> str:
    """Return how policies name a user."""
    return f"arn:aws:iam::{user_id}:user/{name}"


def known_among(users: Iterable[User]) -> Known:
    """Return who finds the users that there are, by any of the spellings."""
    by_id = {user.user_id: user for user in users}
    by_name = {user.name: user.user_id for user in by_id.values()}

    def known(kind: str, text: str) -> str | None:
        if text in by_id:
            return text
        found = _ARN.fullmatch(text) if kind == AWS else None
        if found is None:
            return None
        account, name = found["account"], found["name"]
        user_id = account if name is None else by_name.get(name)
        return user_id if user_id in by_id and account in ("", user_id) else None

    return known
