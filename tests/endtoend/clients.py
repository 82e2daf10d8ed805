"""The clients of the end-to-end tests: boto3, and programs of others with an environment of their own."""

import hashlib
import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from twisted.trial.unittest import SkipTest

from tests.certificates import Authority
from tests.endtoend.appliance import Appliance, ApplianceCase, wait_until
from tests.endtoend.wire import REGION, Keys

MIB = 1024**2


def boto_client(
    endpoint: str, keys: Keys | None, *, verify: str | bool | None = None, **settings: Any
) -> Any:
    """
    Return a boto3 client that does not repeat what is refused.

    :param keys: None for requests without a signature
    :param settings: botocore's, besides those of path style
    """
    from botocore import UNSIGNED

    chosen: dict[str, Any] = {
        "s3": {"addressing_style": "path"},
        "retries": {"max_attempts": 0},
        "connect_timeout": 10,
        "read_timeout": 60,
        **settings,
    }
    if keys is None:
        chosen["signature_version"] = UNSIGNED
    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=keys.access_key if keys else None,
        aws_secret_access_key=keys.secret_key if keys else None,
        region_name=REGION,
        verify=verify,
        config=Config(**chosen),
    )


def refused(call: Any, *arguments: Any, **options: Any) -> tuple[int, str]:
    """
    Return status and code of a boto3 call that must be refused.

    :raise AssertionError: it was not
    """
    error = refusal(call, *arguments, **options)
    return error["ResponseMetadata"]["HTTPStatusCode"], error["Error"]["Code"]


def refusal(call: Any, *arguments: Any, **options: Any) -> dict[str, Any]:
    """Return botocore's account of a refusal; raises as ``refused``."""
    try:
        answer = call(*arguments, **options)
    except ClientError as error:
        return dict(error.response)
    raise AssertionError(f"was not refused: {answer}")


# ── programs ────────────────────────────────────────────────────────────────────────────────────────────────────────


def program(name: str) -> str:
    """
    Return the path of a program, from our Python environment first.

    :raise SkipTest: this machine does not have it
    """
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise SkipTest(f"THERE IS NO {name} ON THIS MACHINE")
    return found


TRUSTED = MappingProxyType(
    {
        "aws": "AWS_CA_BUNDLE",
        "duplicity": "AWS_CA_BUNDLE",
        "node": "NODE_EXTRA_CA_CERTS",
        "rclone": "RCLONE_CA_CERT",
        "s3fs": "CURL_CA_BUNDLE",
    }
)
"""The variable that a program finds the certificates in that it believes; rclone ends when it sees botocore's."""


class Programs:
    """The programs for one user, with a home folder of their own so that nobody's settings count."""

    def __init__(self, endpoint: str, keys: Keys, home: Path, trusted: Path | None = None) -> None:
        """
        :param trusted: file of the certificates that they believe, where the endpoint is one of TLS
        """
        home.mkdir(exist_ok=True)
        self.home = home
        self.trusted = trusted
        host = urlsplit(endpoint).netloc
        self.environment = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(home),
            "AWS_ACCESS_KEY_ID": keys.access_key,
            "AWS_SECRET_ACCESS_KEY": keys.secret_key,
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": "1",
            "AWS_PAGER": "",
            "RCLONE_CONFIG": str(home / "rclone.conf"),
            "RCLONE_CONFIG_CS_TYPE": "s3",
            "RCLONE_CONFIG_CS_PROVIDER": "Other",
            "RCLONE_CONFIG_CS_ENV_AUTH": "true",
            "RCLONE_CONFIG_CS_ENDPOINT": endpoint,
            "RCLONE_CONFIG_CS_REGION": REGION,
            "RCLONE_RETRIES": "1",
            "RCLONE_LOW_LEVEL_RETRIES": "1",
        }
        (home / "rclone.conf").touch()
        s3cmd_settings = (
            "[default]\n"
            f"access_key = {keys.access_key}\nsecret_key = {keys.secret_key}\n"
            f"host_base = {host}\nhost_bucket = {host}\nuse_https = {trusted is not None}\nmax_retries = 0\n"
        )
        if trusted is not None:
            s3cmd_settings += f"ca_certs_file = {trusted}\nsignurl_use_https = True\n"
        self._s3cmd_settings = home / "s3cfg"
        self._s3cmd_settings.write_text(s3cmd_settings)

    def aws(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run awscli."""
        return self.run("aws", *words, **options)

    def rclone(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run rclone; its remote is called ``cs``."""
        return self.run("rclone", *words, **options)

    def s3cmd(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run s3cmd."""
        return self.run("s3cmd", "-c", str(self._s3cmd_settings), *words, **options)

    def environment_of(self, name: str) -> dict[str, str]:
        """Return the environment of a program."""
        if self.trusted is None or name not in TRUSTED:
            return dict(self.environment)
        return {**self.environment, TRUSTED[name]: str(self.trusted)}

    def run(
        self, name: str, *words: str, variables: Mapping[str, str] = MappingProxyType({}), **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """
        Run a program to its end.

        :param variables: of its environment besides ours
        :param options: as those of ``_run``
        :raise SkipTest: this machine does not have it
        :raise AssertionError: it ended otherwise
        """
        return self._run([program(name), *words], {**self.environment_of(name), **variables}, **options)

    def _run(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        status: int | None = 0,
        seconds: float = 180.0,
    ) -> subprocess.CompletedProcess[str]:
        """
        :param status: what it must exit with; None for anything but 0
        :param seconds: what it may take on a busy machine
        """
        done = subprocess.run(
            command,
            env=environment,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
        if done.returncode != status if status is not None else done.returncode == 0:
            raise AssertionError(
                f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
            )
        return done


def tree(folder: Path) -> dict[str, str]:
    """Return the digest of every file below a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def fetched(
    url: str,
    *,
    method: str = "GET",
    body: bytes | None = None,
    headers: Mapping[str, str] = MappingProxyType({}),
    trusted: Path | None = None,
) -> bytes:
    """
    Return what a URL gives to who has nothing but it.

    :param trusted: file of the certificates that it believes, where the URL is one of TLS
    :raise HTTPError: it was refused
    """
    # A body without a type is given one by urllib, which is not signed.
    typed = {"Content-Type": "", **headers} if body is not None else dict(headers)
    request = Request(url, data=body, method=method, headers=typed)
    context = None if trusted is None else ssl.create_default_context(cafile=str(trusted))
    with urlopen(request, timeout=30, context=context) as answer:
        return bytes(answer.read())


class OverTls(ApplianceCase):
    """Tests whose appliance has a certificate of an authority whose root is all that clients know."""

    @classmethod
    def make_appliance(cls) -> Appliance:
        """Return an appliance that serves TLS."""
        appliance = Appliance(cls.settings)
        appliance.use_tls(Authority())
        return appliance


class ProgramCase(ApplianceCase):
    """
    Tests with programs, each with a bucket of its own.

    :ivar files: a folder of files whose names and sizes have come to grief elsewhere, one large enough for parts
    :ivar back: an empty folder for what comes back
    """

    def setUp(self) -> None:
        """Have programs, a bucket and files."""
        super().setUp()
        self.programs = Programs(
            self.appliance.endpoint,
            self.appliance.users["first"],
            self.appliance.folder / "home",
            self.appliance.certificate,
        )
        self.name = self.bucket()
        self.files = self.programs.home / self.id() / "files"
        self.back = self.files.with_name("back")
        self.back.mkdir(parents=True)
        chance = Random(11)
        for name, size_bytes in (
            ("empty", 0),
            ("small.txt", 500),
            ("with space+plus ü.bin", 70_000),
            ("dir/deeper/x%20y", 1),
            ("large.bin", 17 * MIB + 3),
        ):
            path = self.files / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(chance.randbytes(size_bytes))

    def keys(self) -> set[str]:
        """Return what the bucket lists."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.name)
        return {entry["Key"] for page in pages for entry in page.get("Contents", [])}

    def restore(self, *keys: str) -> None:
        """Have cold objects of the bucket restored, and wait for them."""
        for key in keys:
            self.s3.restore_object(Bucket=self.name, Key=key, RestoreRequest={"Days": 1})
        for key in keys:
            wait_until(f"{key} is restored", partial(self.is_restored, key), seconds=60)

    def is_restored(self, key: str) -> bool:
        """Say whether an object has a restored copy."""
        said = self.s3.head_object(Bucket=self.name, Key=key).get("Restore", "")
        return 'ongoing-request="false"' in said
