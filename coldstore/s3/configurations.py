"""Operations on configurations of buckets and objects that cannot be set, or to one value alone."""

from collections.abc import Mapping

from coldstore.model.objects import Bucket
from coldstore.s3.answers import Answer
from coldstore.s3.api import BUILT, Operation, Target
from coldstore.s3.call import Call
from coldstore.s3.resource import OperationFunction
from coldstore.s3.services import Services
from coldstore.s3.settled import SETTLED, check_settled
from coldstore.s3.unset import DEFAULTS, MISSING, REMOVALS, answer_of_unset

_OF_OBJECTS = frozenset(
    operation for methods in BUILT[Target.OBJECT].subresources.values() for operation in methods.values()
)


class ConfigurationOperations:
    """The operations of this family."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def registry(self) -> Mapping[Operation, OperationFunction]:
        """Return the function of each."""
        return {
            **dict.fromkeys((*MISSING, *DEFAULTS, *REMOVALS), self.unset),
            **dict.fromkeys(SETTLED, self.write),
        }

    async def unset(self, call: Call) -> Answer:
        """The reading, or the removal, of what is not set."""
        await self._bucket(call)
        return answer_of_unset(call.operation)

    async def write(self, call: Call) -> Answer:
        """The writing of what is so anyway."""
        await self._bucket(call)
        check_settled(call.operation, await call.body.read_document())
        return Answer()

    async def _bucket(self, call: Call) -> Bucket:
        """Return the bucket of a call, once it is certain that the object is there which the call is about."""
        bucket = await self._services.bucket(call)
        if call.operation in _OF_OBJECTS:
            await self._services.version(bucket.name, call.object_key, call.version_id)
        return bucket
