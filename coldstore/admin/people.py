"""Users and their access keys, as an operator sees and changes them."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.web.http import Request

from coldstore.admin import views
from coldstore.admin.asking import BadRequest, argument_of, document_of, text_of
from coldstore.admin.quotas import quotas_of, quotas_text
from coldstore.interfaces.keyring import IKeyring
from coldstore.interfaces.metadata import IMetadataStore
from coldstore.model.keys import AccessKey
from coldstore.model.objects import User
from coldstore.model.quotas import QuotaKind
from coldstore.plan.quota import DefaultQuotas, standing_of_user

Answerer = Callable[[Request], Awaitable[object]]


class People:
    """Answers questions about users and keys, and carries out orders. A secret is in the answer that makes it, and in no other."""

    def __init__(
        self,
        *,
        store: IMetadataStore,
        clock: IReactorTime,
        quotas: DefaultQuotas,
        keyring: IKeyring,
        new_user_id: Callable[[], str],
        new_key: Callable[[], tuple[str, str]],
    ) -> None:
        """See ``OperatorInterface``."""
        self._store = store
        self._clock = clock
        self._quotas = quotas
        self._keyring = keyring
        self._new_user_id = new_user_id
        self._new_key = new_key

    def answerers(self) -> Sequence[tuple[str, str, Answerer]]:
        """Return what is answered: method, path, and by what."""
        return (
            ("GET", "/users", self._users),
            ("POST", "/users", self._create_user),
            ("POST", "/users/quota", self._set_quota),
            ("POST", "/users/change", self._change_user),
            ("GET", "/keys", self._keys),
            ("POST", "/keys", self._create_key),
            ("POST", "/keys/change", self._change_key),
            ("POST", "/keys/rotate-master", self._rotate_master),
        )

    # ── users ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _users(self, _request: Request) -> object:
        return [await self._user(user) for user in await self._store.users()]

    async def _user(self, user: User) -> views.Row:
        use = await self._store.quota_use(owner_id=user.user_id)
        keys = await self._store.access_keys_of(user.user_id)
        return views.user_row(user, keys) | views.quota_row(standing_of_user(user, use, self._quotas))

    async def _create_user(self, request: Request) -> object:
        document = document_of(request)
        name = text_of(document, "name")
        if not name or not name.isprintable():
            raise BadRequest("name must not be empty, and printable")
        user = User(user_id=self._new_user_id(), name=name, created_at=self._clock.seconds())
        key, secret_key = self._made_key(user.user_id)
        await self._store.create_user(user, key)
        await self._audit(document, "create user", f"user {name}", key.access_key)
        return views.new_key_row(user, key, secret_key)

    async def _set_quota(self, request: Request) -> object:
        document = document_of(request)
        name, quotas = text_of(document, "name"), quotas_of(document)
        user = await self._store.set_user_quotas(name=name, quotas=quotas)
        await self.audit_quotas(document, f"user {name}", quotas)
        return await self._user(user)

    async def audit_quotas(
        self, document: Mapping[str, Any], subject: str, quotas: Mapping[QuotaKind, int | None]
    ) -> None:
        """Write down who has set whose quotas."""
        await self._audit(document, "set quota", subject, quotas_text(quotas))

    async def _change_user(self, request: Request) -> object:
        document = document_of(request)
        name, action = text_of(document, "name"), text_of(document, "action")
        if action == "delete":
            user = await self._store.delete_user(name)
            await self._audit(document, "delete user", f"user {name}", user.user_id)
            return views.user_row(user, ())
        user = await self._store.set_user_disabled(name=name, disabled_at=self._disabled_at(action))
        await self._audit(document, f"{action} user", f"user {name}", "")
        return await self._user(user)

    # ── keys ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _keys(self, request: Request) -> object:
        name = argument_of(request, "user")
        users = [await self._named(name)] if name else await self._store.users()
        return [
            views.key_row(user, key)
            for user in users
            for key in await self._store.access_keys_of(user.user_id)
        ]

    async def _create_key(self, request: Request) -> object:
        document = document_of(request)
        user = await self._named(text_of(document, "user"))
        key, secret_key = self._made_key(user.user_id)
        await self._store.add_access_key(key)
        await self._audit(document, "create access key", f"user {user.name}", key.access_key)
        return views.new_key_row(user, key, secret_key)

    async def _change_key(self, request: Request) -> object:
        document = document_of(request)
        access_key, action = text_of(document, "access_key"), text_of(document, "action")
        if action == "delete":
            key = await self._store.delete_access_key(access_key)
        else:
            key = await self._store.set_access_key_disabled(
                access_key=access_key, disabled_at=self._disabled_at(action)
            )
        users = {user.user_id: user for user in await self._store.users()}
        user = users[key.user_id]
        await self._audit(document, f"{action} access key", f"user {user.name}", access_key)
        return views.key_row(user, key)

    async def _rotate_master(self, request: Request) -> object:
        document = document_of(request)
        before = self._keyring.key_id
        count = await self._keyring.rotate()
        await self._audit(document, "change master key", before, self._keyring.key_id)
        return {
            "key_file": self._keyring.key_file,
            "master_key": self._keyring.key_id,
            "master_key_before": before,
            "kept_before": f"{self._keyring.key_file}.old-{before}",
            "secrets": count,
        }

    # ── both ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _made_key(self, user_id: str) -> tuple[AccessKey, str]:
        access_key, secret_key = self._new_key()
        sealed = self._keyring.seal(access_key=access_key, secret_key=secret_key)
        key = AccessKey(
            access_key=access_key, user_id=user_id, sealed_secret=sealed, created_at=self._clock.seconds()
        )
        return key, secret_key

    async def _named(self, name: str) -> User:
        for user in await self._store.users():
            if user.name == name:
                return user
        raise BadRequest(f"there is no user {name}; `coldstore user list` lists them")

    def _disabled_at(self, action: str) -> float | None:
        if action not in ("disable", "enable"):
            raise BadRequest(f"no such action: {action!r}; there are disable, enable and delete")
        return self._clock.seconds() if action == "disable" else None

    async def _audit(self, document: Mapping[str, Any], what: str, subject: str, detail: str) -> None:
        await self._store.audit(
            at=self._clock.seconds(),
            who=text_of(document, "by", "operator"),
            what=what,
            subject=subject,
            detail=detail,
        )
