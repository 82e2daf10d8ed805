"""All operations of S3 that are built, over one store and one disk."""

from collections.abc import Callable, Mapping, Sequence
from random import Random
from types import MappingProxyType

from twisted.internet.interfaces import IReactorTime

from coldstore.interfaces.bell import IBell
from coldstore.interfaces.datakeys import IDataKeys
from coldstore.interfaces.metadata import IMetadataStore
from coldstore.interfaces.staging import IStaging
from coldstore.plan.classes import ClassRules
from coldstore.plan.quota import DefaultQuotas
from coldstore.plan.restore import SECONDS_PER_DAY
from coldstore.s3.access_lists import AccessLists
from coldstore.s3.acl import AclOperations
from coldstore.s3.acl_giving import AclGiving
from coldstore.s3.acl_rights import AclRights
from coldstore.s3.admission import Admission
from coldstore.s3.answers import Answer
from coldstore.s3.api import BUILT, Operation, Target
from coldstore.s3.attributes import AttributesOperations
from coldstore.s3.authorise import Authority
from coldstore.s3.body import InThread
from coldstore.s3.buckets import BucketOperations
from coldstore.s3.call import Call
from coldstore.s3.configurations import ConfigurationOperations
from coldstore.s3.copying import CopyOperations
from coldstore.s3.encrypting import BucketEncryptionOperations
from coldstore.s3.encryption_default import EncryptionDefaults
from coldstore.s3.encryption_keys import ObjectKeys
from coldstore.s3.errors import S3Error
from coldstore.s3.lifecycle import LifecycleOperations
from coldstore.s3.listing import ListingOperations
from coldstore.s3.locking import LockOperations
from coldstore.s3.multipart import MultipartOperations
from coldstore.s3.objects import ObjectOperations
from coldstore.s3.pace import Pace
from coldstore.s3.policies import PolicyOperations
from coldstore.s3.posting import PostOperations
from coldstore.s3.public_access import PublicAccess
from coldstore.s3.quotas import Reservations
from coldstore.s3.reads import ReadCounts
from coldstore.s3.resource import OperationFunction, ToldToPage
from coldstore.s3.restore import RestoreOperations
from coldstore.s3.services import Services
from coldstore.s3.settings import Settings
from coldstore.s3.sharing import SharingOperations
from coldstore.s3.tagging import TaggingOperations

_MAKING = frozenset(
    {
        Operation.PUT_OBJECT,
        Operation.CREATE_MULTIPART_UPLOAD,
        Operation.UPLOAD_PART,
        Operation.LIST_PARTS,
        Operation.COMPLETE_MULTIPART_UPLOAD,
        Operation.ABORT_MULTIPART_UPLOAD,
    }
)
_LOOKING_UP = (
    frozenset(BUILT[Target.OBJECT].plain.values()).union(
        *(methods.values() for methods in BUILT[Target.OBJECT].subresources.values())
    )
    - _MAKING
)
"""Operations on an object that is there."""


class S3Operations:
    """The table of operations."""

    def __init__(
        self,
        *,
        store: IMetadataStore,
        staging: IStaging,
        clock: IReactorTime,
        random: Random,
        rules: ClassRules,
        region: str,
        archive_bell: IBell,
        recall_bell: IBell,
        janitor_bell: IBell,
        messages_bell: IBell,
        in_thread: InThread,
        data_keys: IDataKeys,
        encrypts_all: bool = False,
        sse_c_over_http: bool = False,
        quotas: DefaultQuotas = DefaultQuotas(),  # noqa: B008 - immutable
        room_wanted: Callable[[int], None] = lambda _: None,
        doubtful: Callable[[Sequence[str]], None] = lambda _: None,
        pace: Pace = Pace(),  # noqa: B008 - immutable
        day_seconds: float = SECONDS_PER_DAY,
        days_max: int = 2**31 - 1,
        blocks_public: bool = True,
    ) -> None:
        """
        :param random: where upload ids come from, and the seed of layout ids; not guessable
        :param rules: what each storage class promises; a class that is not there is refused
        :param region: the one region that buckets are in
        :param day_seconds: length of a day of restores and lifecycle rules; shortened for tests
        :param days_max: most days that a restore may be asked for
        :param blocks_public: whether buckets block what is public of which nobody has said otherwise
        :param archive_bell: rung when there is something new to archive
        :param recall_bell: rung when a restore begins or becomes more urgent
        :param janitor_bell: rung when bytes on disk are needed no more
        :param messages_bell: rung when there is something to deliver
        :param in_thread: where large blocks are encrypted and decrypted
        :param data_keys: what objects are encrypted under whose writers, or buckets, ask for it
        :param encrypts_all: whether objects are encrypted about which neither says anything
        :param sse_c_over_http: whether customers' keys are taken from connections that are not encrypted
        :param quotas: of users and buckets that have none of their own
        :param doubtful: told addresses on the disk of which the record may or may not know
        :param pace: what a client must take of an object at least
        :param room_wanted: told how many bytes could not be promised for want of room on the disk
        """
        settings = Settings(store)
        public_access = PublicAccess(settings, blocks_public=blocks_public)
        lists = AccessLists(store, settings)
        self._encryption = EncryptionDefaults(settings, encrypts_all=encrypts_all)
        self._services = Services(
            store=store,
            authority=Authority(
                store,
                settings,
                public_access=public_access,
                acl_rights=AclRights(store, lists, public_access),
            ),
            staging=staging,
            admission=Admission(
                store=store, staging=staging, rules=rules, defaults=quotas, room_wanted=room_wanted
            ),
            reservations=Reservations(store=store, defaults=quotas),
            clock=clock,
            random=random,
            ordinary=Random(random.getrandbits(128)),
            rules=rules,
            region=region,
            day_seconds=day_seconds,
            days_max=days_max,
            archive_bell=archive_bell,
            recall_bell=recall_bell,
            janitor_bell=janitor_bell,
            messages_bell=messages_bell,
            reads=ReadCounts(store, clock),
            pace=pace,
            doubtful=doubtful,
            object_keys=ObjectKeys(
                random=random,
                in_thread=in_thread,
                over_http=sse_c_over_http,
                data_keys=data_keys,
                defaults=self._encryption,
            ),
            settings=settings,
            access_lists=lists,
            acl_giving=AclGiving(lists, public_access),
        )

        self._sharing = SharingOperations(self._services)

    @property
    def told_to_page(self) -> ToldToPage:
        """What ``coldstore.s3.resource.Endpoint`` asks about requests of pages."""
        return self._sharing.told_to_page

    def registry(self) -> Mapping[Operation, OperationFunction]:
        """Return what ``coldstore.s3.resource.Endpoint`` serves."""
        buckets, objects = BucketOperations(self._services), ObjectOperations(self._services)
        listing, multipart = ListingOperations(self._services), MultipartOperations(self._services)
        copying, restore = CopyOperations(self._services), RestoreOperations(self._services)
        tagging, attributes = TaggingOperations(self._services), AttributesOperations(self._services)
        encrypting = BucketEncryptionOperations(self._services, self._encryption)
        lifecycle = LifecycleOperations(self._services)
        policies, acls = PolicyOperations(self._services), AclOperations(self._services)
        locking = LockOperations(self._services)
        return self._discreet(
            {
                Operation.LIST_BUCKETS: buckets.list_buckets,
                Operation.CREATE_BUCKET: buckets.create_bucket,
                Operation.HEAD_BUCKET: buckets.head_bucket,
                Operation.DELETE_BUCKET: buckets.delete_bucket,
                Operation.GET_BUCKET_LOCATION: buckets.location,
                Operation.GET_BUCKET_VERSIONING: buckets.versioning,
                Operation.PUT_BUCKET_VERSIONING: buckets.put_versioning,
                Operation.GET_DEFAULT_CLASS: buckets.get_default_class,
                Operation.PUT_DEFAULT_CLASS: buckets.put_default_class,
                Operation.GET_BUCKET_POLICY: policies.get_policy,
                Operation.PUT_BUCKET_POLICY: policies.put_policy,
                Operation.DELETE_BUCKET_POLICY: policies.delete_policy,
                Operation.GET_BUCKET_POLICY_STATUS: policies.get_status,
                Operation.GET_PUBLIC_ACCESS_BLOCK: policies.get_access_block,
                Operation.PUT_PUBLIC_ACCESS_BLOCK: policies.put_access_block,
                Operation.DELETE_PUBLIC_ACCESS_BLOCK: policies.delete_access_block,
                Operation.LIST_OBJECTS: listing.list_objects,
                Operation.LIST_OBJECTS_V2: listing.list_objects_v2,
                Operation.LIST_OBJECT_VERSIONS: listing.list_object_versions,
                Operation.PUT_OBJECT: objects.put_object,
                Operation.POST_OBJECT: PostOperations(self._services).post_object,
                Operation.GET_OBJECT: objects.get_object,
                Operation.HEAD_OBJECT: objects.head_object,
                Operation.DELETE_OBJECT: objects.delete_object,
                Operation.DELETE_OBJECTS: objects.delete_objects,
                Operation.COPY_OBJECT: copying.copy_object,
                Operation.CREATE_MULTIPART_UPLOAD: multipart.create,
                Operation.UPLOAD_PART: multipart.upload_part,
                Operation.UPLOAD_PART_COPY: multipart.upload_part_copy,
                Operation.LIST_PARTS: multipart.list_parts,
                Operation.LIST_MULTIPART_UPLOADS: multipart.list_uploads,
                Operation.COMPLETE_MULTIPART_UPLOAD: multipart.complete,
                Operation.ABORT_MULTIPART_UPLOAD: multipart.abort,
                Operation.RESTORE_OBJECT: restore.restore_object,
                Operation.GET_OBJECT_ATTRIBUTES: attributes.get_object_attributes,
                Operation.GET_OBJECT_TAGGING: tagging.get_of_object,
                Operation.PUT_OBJECT_TAGGING: tagging.put_of_object,
                Operation.DELETE_OBJECT_TAGGING: tagging.delete_of_object,
                Operation.GET_BUCKET_TAGGING: tagging.get_of_bucket,
                Operation.PUT_BUCKET_TAGGING: tagging.put_of_bucket,
                Operation.DELETE_BUCKET_TAGGING: tagging.delete_of_bucket,
                Operation.GET_BUCKET_ENCRYPTION: encrypting.get,
                Operation.PUT_BUCKET_ENCRYPTION: encrypting.put,
                Operation.DELETE_BUCKET_ENCRYPTION: encrypting.delete,
                Operation.GET_BUCKET_LIFECYCLE: lifecycle.get,
                Operation.PUT_BUCKET_LIFECYCLE: lifecycle.put,
                Operation.DELETE_BUCKET_LIFECYCLE: lifecycle.delete,
                Operation.GET_BUCKET_OBJECT_LOCK: locking.get_configuration,
                Operation.PUT_BUCKET_OBJECT_LOCK: locking.put_configuration,
                Operation.GET_OBJECT_RETENTION: locking.get_retention,
                Operation.PUT_OBJECT_RETENTION: locking.put_retention,
                Operation.GET_OBJECT_LEGAL_HOLD: locking.get_legal_hold,
                Operation.PUT_OBJECT_LEGAL_HOLD: locking.put_legal_hold,
                Operation.GET_BUCKET_ACL: acls.get_of_bucket,
                Operation.PUT_BUCKET_ACL: acls.put_of_bucket,
                Operation.GET_OBJECT_ACL: acls.get_of_object,
                Operation.PUT_OBJECT_ACL: acls.put_of_object,
                Operation.GET_BUCKET_OWNERSHIP: acls.get_ownership,
                Operation.PUT_BUCKET_OWNERSHIP: acls.put_ownership,
                Operation.DELETE_BUCKET_OWNERSHIP: acls.delete_ownership,
                Operation.GET_BUCKET_CORS: self._sharing.get_rules,
                Operation.PUT_BUCKET_CORS: self._sharing.put_rules,
                Operation.DELETE_BUCKET_CORS: self._sharing.delete_rules,
                Operation.OPTIONS_OBJECT: self._sharing.preflight,
                **ConfigurationOperations(self._services).registry(),
            }
        )

    def _discreet(
        self, functions: Mapping[Operation, OperationFunction]
    ) -> Mapping[Operation, OperationFunction]:
        """Have whoever may not list a bucket not be told what is not in it."""
        told = self._services.authority.told

        def discreet(function: OperationFunction) -> OperationFunction:
            async def carried_out(call: Call) -> Answer:
                try:
                    return await function(call)
                except S3Error as error:
                    raise await told(call, error) from None

            return carried_out

        return MappingProxyType(
            {
                operation: discreet(function) if operation in _LOOKING_UP else function
                for operation, function in functions.items()
            }
        )
