"""How it is said that there is nothing under a key, or no such version. Pure."""

from coldstore.model.errors import NoSuchKey, ShowsDeleteMarker
from coldstore.s3.errors import S3Error, shown


def marker_headers(version_id: str) -> dict[str, str]:
    """Return the fields that say that a version is a delete marker."""
    return {"x-amz-delete-marker": "true", "x-amz-version-id": version_id}


def no_such_key(key: bytes, error: NoSuchKey) -> S3Error:
    """Return what is told of a key; of one whose current version is a delete marker more."""
    what, headers = f"The specified key does not exist: {shown(key)}", {}
    if isinstance(error, ShowsDeleteMarker):
        headers = marker_headers(error.version_id)
        what += ", whose current version is a delete marker; ListObjectVersions shows older ones"
    return S3Error("NoSuchKey", what, details={"Key": key.decode("utf-8")}, headers=headers)


def no_such_version(key: bytes, version_id: str) -> S3Error:
    """Return what is told of a version."""
    return S3Error(
        "NoSuchVersion",
        f"The specified version does not exist: {shown(version_id)} of {shown(key)}",
        details={"Key": key.decode("utf-8"), "VersionId": version_id},
    )
