"""What an owner may configure of a bucket, one document of each kind."""

from enum import StrEnum


class ConfigurationKind(StrEnum):
    """The kinds, by the names of their sub-resources in the S3 API, where it has one."""

    LIFECYCLE = "lifecycle"
    POLICY = "policy"
    CORS = "cors"
    ENCRYPTION = "encryption"
    OWNERSHIP = "ownershipControls"
    PUBLIC_ACCESS_BLOCK = "publicAccessBlock"
    ACL = "acl"


DOCUMENT_MAX_BYTES = 900_000
"""What a document may weigh as it is stored: it is written in one step, with the row of its bucket."""
