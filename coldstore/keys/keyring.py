"""The master key of a running appliance: found at the start, used for every request, changed when somebody wants it."""

from collections.abc import AsyncIterator, Callable
from functools import partial

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from coldstore.interfaces.keyring import IKeyring, KeyFileFault, SecretUnreadable
from coldstore.interfaces.metadata import BATCH_MAX, Conflict, IMetadataStore
from coldstore.keys.keyfile import IsKeyFile
from coldstore.keys.sealing import KEY_BYTES, NONCE_BYTES, MasterSecret, id_in, id_of
from coldstore.model.keys import AccessKey, MasterKey, SealedSigner, Signer
from coldstore.util.asynchronous import returns_deferred

PAGE = 500
SIGNERS_MAX = 1_000
"""Secrets in the clear that are kept in memory."""


@implementer(IKeyring)
class Keyring:
    """See ``IKeyring``."""

    log = Logger()

    def __init__(
        self,
        *,
        store: IMetadataStore,
        file: IsKeyFile,
        seconds: Callable[[], float],
        random_bytes: Callable[[int], bytes],
        in_thread: Callable[[Callable[[], None]], Deferred[None]],
    ) -> None:
        """
        :param seconds: the clock, unix seconds
        :param in_thread: where the file is written while requests are served
        :param random_bytes: returns so many bytes that nobody can guess
        """
        self._store = store
        self._file = file
        self._seconds = seconds
        self._random_bytes = random_bytes
        self._in_thread = in_thread
        self._secrets: dict[str, MasterSecret] = {}
        self._current: MasterSecret | None = None
        self._signers: dict[str, tuple[SealedSigner, Signer]] = {}
        self._is_rotating = False

    # ── the start ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def open(self) -> None:
        """
        Find the master key, or make the first one; encrypt what is in the clear, and go on with a change of the key that was broken off.

        :raise KeyFileFault: the key is not there, or is not the one; nothing was changed
        :raise MetadataUnavailable: the store cannot be used
        """
        known = await self._store.master_keys()
        found = self._file.read()
        others = [key for key in known if found is None or key.check_value != found.check_value]
        in_use = await self._ids_in_use() if others else frozenset()
        needed = [key for key in others if id_of(key.check_value) in in_use]
        old = {key.check_value: self._old(key) for key in needed}
        lost = [key for key in needed if old[key.check_value] is None]
        if lost and not self._file.is_given_up():
            raise KeyFileFault(self._refusal(lost[-1], found, is_known=len(others) < len(known)))
        if found is None:
            found = self._first()
        await self._store.add_master_key(MasterKey(check_value=found.check_value, since=self._seconds()))
        self._secrets = {secret.key_id: secret for secret in (*old.values(), found) if secret is not None}
        self._current = found
        await self._seal_plain()
        if lost:
            await self._give_up(frozenset(id_of(key.check_value) for key in lost))
        if others:
            count = await self._reseal()
            self.log.info(
                "secrets of {count} access keys were encrypted anew, under master key {key}",
                count=count,
                key=self.key_id,
            )
        if self._file.is_given_up():
            self._file.forget_giving_up()

    def _first(self) -> MasterSecret:
        made = MasterSecret(self._random_bytes(KEY_BYTES))
        self._file.write(made)
        self.log.info(
            "{path} is new: keep a copy of it, apart from dumps of the metadata. Without it they give no access key back",
            path=self._file.path,
        )
        return made

    def _old(self, key: MasterKey) -> MasterSecret | None:
        """Return one from before, None when it is not here."""
        secret = self._file.old(id_of(key.check_value))
        return secret if secret is not None and secret.check_value == key.check_value else None

    def _refusal(self, lost: MasterKey, found: MasterSecret | None, *, is_known: bool) -> str:
        path, key_id = self._file.path, id_of(lost.check_value)
        if found is None:
            what = f"the secrets of access keys are encrypted, and {path} with the master key {key_id} is not there"
        elif is_known:
            what = f"the change from master key {key_id} to {found.key_id} is not through, and {path}.old-{key_id} is not there"
        else:
            what = (
                f"{path} is not the master key that the secrets of access keys are encrypted under: that one has the id {key_id}, this"
                f" one {found.key_id}"
            )
        return (
            f"{what}: put back the copy that you keep (security.key_file says where it belongs). To give those access keys up for"
            f" lost, and make new ones: touch {path}.lost"
        )

    async def _give_up(self, key_ids: frozenset[str]) -> None:
        """Delete the access keys whose master key is lost."""
        lost = [key.access_key async for key in self._all() if id_in(key.sealed_secret) in key_ids]
        for access_key in lost:
            await self._store.set_access_key_disabled(access_key=access_key, disabled_at=self._seconds())
            await self._store.delete_access_key(access_key)
        self.log.warn(
            "{count} access keys were given up for lost with their master key: coldstore keys create USER makes new ones",
            count=len(lost),
        )

    async def _ids_in_use(self) -> frozenset[str]:
        return frozenset({id_in(key.sealed_secret) async for key in self._all() if key.sealed_secret})

    async def _seal_plain(self) -> None:
        count, after = 0, ""
        while plain := await self._store.plain_secrets(after=after, limit=BATCH_MAX):
            await self._store.seal_secrets(
                {
                    access_key: ("", self.seal(access_key=access_key, secret_key=secret_key))
                    for access_key, secret_key in plain.items()
                }
            )
            count, after = count + len(plain), max(plain)
        if count:
            await self._store.forget_plain_secrets()
            self.log.info(
                "secrets of {count} access keys were in the clear and are encrypted now; dumps from before still hold them in the clear",
                count=count,
            )

    # ── at work ─────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def key_id(self) -> str:
        """See ``IKeyring``."""
        return self._now.key_id

    @property
    def key_file(self) -> str:
        """See ``IKeyring``."""
        return self._file.path

    def look_up(self, access_key: str) -> Deferred[Signer | None]:
        """See ``IKeyring``."""
        return self._store.signer(access_key).addCallback(self._unsealed)

    def seal(self, *, access_key: str, secret_key: str) -> str:
        """See ``IKeyring``."""
        nonce = self._random_bytes(NONCE_BYTES)
        return self._now.seal(access_key=access_key, secret_key=secret_key, nonce=nonce)

    @property
    def _now(self) -> MasterSecret:
        assert self._current is not None, "the keyring is not open"
        return self._current

    def _unsealed(self, sealed: SealedSigner | None) -> Signer | None:
        if sealed is None:
            return None
        known = self._signers.get(sealed.access_key)
        # The store gives the same object until something changes: then what was found in it once still holds.
        if known is not None and known[0] is sealed:
            return known[1]
        signer = Signer(
            user_id=sealed.user_id,
            name=sealed.name,
            access_key=sealed.access_key,
            secret_key=self._secret(sealed.access_key, sealed.sealed_secret),
            quotas=sealed.quotas,
            policies=sealed.policies,
        )
        if len(self._signers) >= SIGNERS_MAX:
            self._signers.clear()
        self._signers[sealed.access_key] = (sealed, signer)
        return signer

    def _secret(self, access_key: str, sealed: str) -> str:
        secret = self._secrets.get(id_in(sealed))
        if secret is None:
            raise SecretUnreadable(
                f"the secret of {access_key} is encrypted under a master key that is not here"
            )
        return secret.unseal(access_key=access_key, sealed=sealed)

    # ── another master key ──────────────────────────────────────────────────────────────────────────────────────────

    @returns_deferred
    async def rotate(self) -> int:
        """See ``IKeyring``."""
        if self._is_rotating:
            raise Conflict("the master key is being changed already")
        self._is_rotating = True
        try:
            new = MasterSecret(self._random_bytes(KEY_BYTES))
            # From here on a start takes the new key, finds the old one beside it, and goes on.
            await self._in_thread(partial(self._file.write, new, self._now))
            # Whoever has sealed a secret under the old one has handed it to the store before this is handed to it: then it is found.
            self._secrets[new.key_id] = self._current = new
            await self._store.add_master_key(MasterKey(check_value=new.check_value, since=self._seconds()))
            return await self._reseal()
        finally:
            self._is_rotating = False

    async def _reseal(self) -> int:
        """Encrypt everything under the present key that is under another one; return how many secrets."""
        count = 0
        unreadable: set[str] = set()
        while found := await self._under_others(unreadable):
            anew: dict[str, tuple[str, str]] = {}
            for key in found:
                try:
                    secret_key = self._secret(key.access_key, key.sealed_secret)
                except SecretUnreadable as fault:
                    self.log.error("{fault}: it cannot be encrypted anew", fault=str(fault))
                    unreadable.add(key.access_key)
                    continue
                anew[key.access_key] = (
                    key.sealed_secret,
                    self.seal(access_key=key.access_key, secret_key=secret_key),
                )
            await self._store.seal_secrets(anew)
            count += len(anew)
        if not unreadable:
            for known in await self._store.master_keys():
                if known.check_value != self._now.check_value:
                    await self._store.forget_master_key(known.check_value)
        return count

    async def _under_others(self, but: set[str]) -> list[AccessKey]:
        """Return a batch of keys whose secrets are under another master key."""
        found: list[AccessKey] = []
        async for key in self._all():
            if key.sealed_secret and id_in(key.sealed_secret) != self.key_id and key.access_key not in but:
                found.append(key)
                if len(found) == BATCH_MAX:
                    break
        return found

    async def _all(self) -> AsyncIterator[AccessKey]:
        after = ""
        while page := await self._store.access_keys(after=after, limit=PAGE):
            for key in page:
                yield key
            after = page[-1].access_key
