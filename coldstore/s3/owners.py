"""How owners are shown: whose something is, by id and name."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from coldstore.model.acl import Ownership
from coldstore.model.objects import Bucket
from coldstore.s3.call import Call
from coldstore.s3.services import Services
from coldstore.s3.xml import Node, node


class Owners(NamedTuple):
    """
    Names of users by their ids; of others the id is shown in the name's place.

    ``of_all``: who owns everything in the bucket, whoever wrote it; None: each his own.
    """

    names: Mapping[str, str]
    of_all: str | None

    def owner(self, user_id: str) -> Node:
        """Return the element of an owner, as the record has him."""
        return self.user("Owner", user_id if self.of_all is None else self.of_all)

    def user(self, name: str, user_id: str) -> Node:
        """Return the element of a user."""
        return node(name, node("ID", user_id), node("DisplayName", self.names.get(user_id, user_id)))


async def owners_of(services: Services, call: Call, bucket: Bucket, user_ids: Iterable[str]) -> Owners:
    """
    Return how those are shown who own what is in a bucket. Who lists what is his own costs no question.

    :param user_ids: of all who are to be shown, as the records have them
    """
    lists = services.access_lists
    of_all = bucket.owner_id if await lists.ownership(bucket) is Ownership.ENFORCED else None
    names = {call.caller.user_id: call.caller.name}
    unknown = {*user_ids, bucket.owner_id} - names.keys()
    return Owners(names | dict(await lists.names(unknown)) if unknown else names, of_all)
