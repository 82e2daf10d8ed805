"""The clients of the end-to-end tests: boto3, and programs of others with an environment of their own."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from twisted.trial.unittest import SkipTest

from tests.endtoend.wire import REGION, Keys


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


class Programs:
    """awscli, rclone and s3cmd for one user, with a home folder of their own so that nobody's settings count."""

    def __init__(self, endpoint: str, keys: Keys, home: Path) -> None:
        home.mkdir(exist_ok=True)
        self.home = home
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
        self._s3cmd_settings = home / "s3cfg"
        self._s3cmd_settings.write_text(
            "[default]\n"
            f"access_key = {keys.access_key}\nsecret_key = {keys.secret_key}\n"
            f"host_base = {host}\nhost_bucket = {host}\nuse_https = False\nmax_retries = 0\n"
        )

    def aws(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run awscli."""
        return self._run([program("aws"), *words], **options)

    def rclone(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run rclone; its remote is called ``cs``."""
        return self._run([program("rclone"), *words], **options)

    def s3cmd(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run s3cmd."""
        return self._run([program("s3cmd"), "-c", str(self._s3cmd_settings), *words], **options)

    def _run(
        self, command: Sequence[str], *, status: int | None = 0, seconds: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """
        :param status: what it must exit with; None for anything but 0
        """
        done = subprocess.run(
            command,
            env=self.environment,
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
