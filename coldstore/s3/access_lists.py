"""Whose the objects of a bucket are, and which access control lists are in force there."""

from collections.abc import Iterable, Mapping

from coldstore.interfaces.metadata import KEYS_MAX, IMetadataStore
from coldstore.model.acl import Acl, Ownership
from coldstore.model.configurations import ConfigurationKind
from coldstore.model.objects import Bucket, ObjectVersion
from coldstore.plan.acl import acl, private
from coldstore.s3.acl_fields import acl_of, grants_in
from coldstore.s3.ownership import DEFAULT, Controls, kept_controls
from coldstore.s3.settings import Settings


class AccessLists:
    """What is in force now."""

    def __init__(self, store: IMetadataStore, settings: Settings) -> None:
        self._store = store
        self._settings = settings

    async def controls(self, bucket: Bucket) -> Controls:
        """Return the ownership controls of a bucket."""
        if ConfigurationKind.OWNERSHIP not in bucket.configurations:
            return DEFAULT
        return await self._settings.of(bucket, ConfigurationKind.OWNERSHIP, kept_controls) or DEFAULT

    async def ownership(self, bucket: Bucket) -> Ownership:
        """Return whose the objects in a bucket are."""
        return (await self.controls(bucket)).ownership

    async def of_bucket(self, bucket: Bucket) -> Acl:
        """Return the list of a bucket: without lists it is its owner's alone."""
        if (
            ConfigurationKind.ACL not in bucket.configurations
            or await self.ownership(bucket) is Ownership.ENFORCED
        ):
            return private(bucket.owner_id)
        return await self.kept(bucket)

    async def kept(self, bucket: Bucket) -> Acl:
        """Return the list that was given to a bucket, whether or not it is in force."""
        grants = await self._settings.of(bucket, ConfigurationKind.ACL, grants_in)
        return private(bucket.owner_id) if grants is None else acl(bucket.owner_id, grants)

    async def of_version(self, bucket: Bucket, version: ObjectVersion) -> Acl:
        """Return the list of a version."""
        if await self.ownership(bucket) is Ownership.ENFORCED:
            return private(bucket.owner_id)
        return acl_of(version)

    async def names(self, user_ids: Iterable[str]) -> Mapping[str, str]:
        """Return the names of those users that there are, by id."""
        wanted = sorted(set(user_ids))
        found: dict[str, str] = {}
        for begin in range(0, len(wanted), KEYS_MAX):
            found |= await self._store.user_names(wanted[begin : begin + KEYS_MAX])
        return found
