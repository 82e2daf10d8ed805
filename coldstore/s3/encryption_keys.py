"""
Whose key the key of an object is under: a customer's, who brings it along with every request (SSE-C), or one of the appliance's
(SSE-S3), which is used where a request or the bucket asks for it, and needs nobody to bring anything.

Source: Amazon S3 User Guide, "Using server-side encryption with Amazon S3 managed keys (SSE-S3)", "Setting default server-side
encryption behavior"; for the other one see ``encryption_customer``.
"""

from random import Random

from twisted.logger import Logger

from coldstore.interfaces.datakeys import DataKeyMismatch, IDataKeys
from coldstore.model.errors import ObjectDamaged
from coldstore.model.objects import Bucket, Encryption, ObjectVersion, Upload, WrappedKey
from coldstore.s3.body import InThread
from coldstore.s3.call import Call
from coldstore.s3.encryption import ObjectKey, Sealing
from coldstore.s3.encryption_customer import ALGORITHM, CustomerKey, customer_key, place_of
from coldstore.s3.encryption_default import EncryptionDefaults
from coldstore.s3.encryption_pieces import CHUNK_BYTES, WHOLE
from coldstore.s3.errors import S3Error
from coldstore.s3.fields import CUSTOMER_KEY_PREFIX, SERVER_SIDE_ENCRYPTION, SOURCE_KEY_PREFIX
from coldstore.util.envelopes import KEY_BYTES, SALT_BYTES


class ObjectKeys:
    """What the operations ask about keys."""

    log = Logger()

    def __init__(
        self,
        *,
        random: Random,
        in_thread: InThread,
        over_http: bool,
        data_keys: IDataKeys,
        defaults: EncryptionDefaults,
    ) -> None:
        """
        :param random: where objects' keys and salts come from; not guessable
        :param in_thread: where large blocks are encrypted
        :param over_http: whether customers' keys are taken from connections that are not encrypted
        :param defaults: what buckets say
        """
        self._random = random
        self._over_http = over_http
        self._data_keys = data_keys
        self._defaults = defaults
        self.in_thread = in_thread

    async def of_writer(self, call: Call, bucket: Bucket) -> Sealing | None:
        """
        Return how the object of a call is to be encrypted; None: not at all.

        :raise S3Error: InvalidArgument, InvalidEncryptionAlgorithmError, InvalidRequest over plain HTTP, AccessDenied where the bucket
            takes no customers' keys
        :raise DataKeyMissing: the key of the appliance's that is needed is not to be had
        """
        key = self._brought(call, CUSTOMER_KEY_PREFIX, is_writing=True)
        if key is not None:
            await self._defaults.check_customer_key(bucket)
            return self._by_customer(call, key)
        # Of which values there are the router has seen.
        if SERVER_SIDE_ENCRYPTION in call.headers or await self._defaults.encrypts(bucket):
            await self._data_keys.ready()
            encryption = Encryption(algorithm=ALGORITHM, key_md5="", wrapped_key="", chunk_bytes=CHUNK_BYTES)
            return self._sealing(encryption, self._random.randbytes(KEY_BYTES), self._data_keys)
        return None

    def _by_customer(self, call: Call, key: CustomerKey) -> Sealing:
        object_key = self._random.randbytes(KEY_BYTES)
        salt, place = self._random.randbytes(SALT_BYTES), place_of(call.bucket_name, call.object_key)
        encryption = Encryption(
            algorithm=ALGORITHM,
            key_md5=key.md5,
            wrapped_key=key.wrap(object_key, salt, place),
            chunk_bytes=CHUNK_BYTES,
        )
        return self._sealing(encryption, object_key, None)

    def of_reader(self, call: Call, version: ObjectVersion, *, needs_key: bool = True) -> ObjectKey | None:
        """
        Return the key of a version that is read; None for one that is not encrypted.

        :param needs_key: whether bytes or checksums are wanted; else one of the appliance's is not looked for, and None is returned
        :raise S3Error: InvalidRequest when a customer's key is missing or there is nothing to decrypt with it, AccessDenied for a wrong
            one; and as ``of_writer``
        :raise DataKeyMissing: the one of the appliance's is not to be had
        :raise ObjectDamaged: what is recorded as its key is not what was
        """
        return self._opened(call, version, CUSTOMER_KEY_PREFIX, needs_key=needs_key)

    def of_source(self, call: Call, version: ObjectVersion) -> ObjectKey | None:
        """Return the key of a version that is copied; as ``of_reader``."""
        return self._opened(call, version, SOURCE_KEY_PREFIX, needs_key=True)

    async def of_part(self, call: Call, upload: Upload, number: int = WHOLE) -> Sealing | None:
        """
        Return how a part is to be encrypted: with the key that its upload began with.

        :param number: of the part; none for who looks at parts alone
        :raise S3Error: InvalidRequest when there is a customer's key and should be none, the other way round, or another one; and as
            ``of_writer``
        :raise DataKeyMissing, ObjectDamaged: as ``of_reader``
        """
        key = self._brought(call, CUSTOMER_KEY_PREFIX, is_writing=True)
        encryption = upload.encryption
        wants_key = encryption is not None and not encryption.is_by_server
        if (key is not None) is not wants_key:
            raise S3Error(
                "InvalidRequest",
                "The multipart upload initiate requested encryption. Subsequent part requests must include the "
                "appropriate encryption parameters."
                if key is None
                else "The multipart upload did not request encryption. Its parts cannot have encryption parameters.",
            )
        if encryption is None:
            return None
        if key is not None:
            return self._of_upload(key, upload, encryption)._replace(part_number=number)
        await self._data_keys.ready()
        wrapped = WrappedKey(encryption.master_key, encryption.wrapped_key)
        object_key = self._unwrapped(
            wrapped, encryption, upload.bucket, upload.key, f"upload {upload.upload_id}"
        )
        return self._sealing(encryption, object_key, self._data_keys)._replace(part_number=number)

    async def of_completion(self, call: Call, upload: Upload) -> Sealing | None:
        """
        Return how an upload is encrypted, for who may leave a customer's key out: None then.

        :raise S3Error, DataKeyMissing, ObjectDamaged: as ``of_part``
        """
        is_left_out = not call.headers.names_key(CUSTOMER_KEY_PREFIX)
        if is_left_out and upload.encryption is not None and not upload.encryption.is_by_server:
            return None
        return await self.of_part(call, upload)

    def _of_upload(self, key: CustomerKey, upload: Upload, encryption: Encryption) -> Sealing:
        object_key = key.unwrap(encryption.wrapped_key, place_of(upload.bucket, upload.key))
        if object_key is None:
            raise S3Error(
                "InvalidRequest", "The provided encryption parameters did not match the ones used originally."
            )
        return self._sealing(encryption, object_key, None)

    def _sealing(self, encryption: Encryption, object_key: bytes, data_keys: "IDataKeys | None") -> Sealing:
        key = ObjectKey(object_key, encryption.chunk_bytes)
        return Sealing(encryption, key, self._random, self.in_thread, data_keys)

    def _opened(
        self, call: Call, version: ObjectVersion, beginning: str, *, needs_key: bool
    ) -> ObjectKey | None:
        facts = version.facts
        key, encryption = self._brought(call, beginning, is_writing=False), facts.encryption
        if encryption is None or encryption.is_by_server:
            if key is not None:
                raise S3Error(
                    "InvalidRequest", "The encryption parameters are not applicable to this object."
                )
            if encryption is None or not needs_key:
                return None
            object_key = self._unwrapped(
                version.wrapped_key, encryption, facts.bucket, facts.key, version.name
            )
            return ObjectKey(object_key, encryption.chunk_bytes)
        if key is None:
            raise S3Error(
                "InvalidRequest",
                "The object was stored using a form of Server Side Encryption. The correct parameters must be provided "
                "to retrieve the object.",
            )
        customers = key.unwrap(encryption.wrapped_key, place_of(facts.bucket, facts.key))
        if customers is None:
            raise S3Error(
                "AccessDenied",
                "Requests specifying Server Side Encryption with Customer provided keys must provide the correct secret "
                "key.",
            )
        return ObjectKey(customers, encryption.chunk_bytes)

    def _unwrapped(
        self, wrapped: WrappedKey, encryption: Encryption, bucket: str, key: bytes, name: str
    ) -> bytes:
        try:
            return self._data_keys.unwrap(wrapped, encryption.bound_to(bucket, key))
        except DataKeyMismatch as error:
            self.log.error("{name} cannot be decrypted: {error}", name=name, error=str(error))
            raise ObjectDamaged from None

    def _brought(self, call: Call, beginning: str, *, is_writing: bool) -> CustomerKey | None:
        if not call.headers.names_key(beginning):
            return None
        if not self._over_http and not call.is_secure:
            raise S3Error(
                "InvalidRequest",
                "Requests specifying Server Side Encryption with Customer provided keys must be made over a secure "
                "connection: use https. Take a key that was sent without it for known to others.",
            )
        return customer_key(call.headers, beginning, is_writing=is_writing)
