"""Access keys: what a user signs requests with, and who signed one."""

from dataclasses import dataclass, field

from coldstore.model.policies import UserPolicy
from coldstore.model.quotas import NO_QUOTAS, Quotas

ACCESS_KEYS_MAX = 10
"""What one user may have at once: two are enough to change one for another, more are for one on each machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessKey:
    """
    One of a user's keys.

    :ivar access_key: its id, which requests name
    :ivar sealed_secret: the secret, encrypted (``coldstore.keys.sealing``); empty as long as a store from before there was
        encryption has not been served: then the secret is still where that one had it
    :ivar disabled_at: since when it is not accepted; None: it is
    :ivar last_used_at: about when it last signed a request, a minute more or less; None: never
    """

    access_key: str
    user_id: str
    sealed_secret: str = field(repr=False)
    created_at: float
    disabled_at: float | None = None
    last_used_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedSigner:
    """A user as one of his keys names him: what is asked of the record for every request."""

    user_id: str
    name: str
    access_key: str
    sealed_secret: str = field(repr=False)
    quotas: Quotas = NO_QUOTAS
    policies: tuple[UserPolicy, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """The same with the secret in the clear. It is nowhere but in memory."""

    user_id: str
    name: str
    access_key: str
    secret_key: str = field(repr=False)
    quotas: Quotas = NO_QUOTAS
    policies: tuple[UserPolicy, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MasterKey:
    """
    A key that secrets of access keys are encrypted under, as the record knows it: not itself, but by what tells it from others.

    :ivar check_value: a one-way function of the key
    :ivar since: when it was first used
    """

    check_value: str
    since: float
