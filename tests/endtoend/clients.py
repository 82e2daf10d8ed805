"""The clients of the end-to-end tests: boto3, programs of others with an environment of their own, and one made of bytes."""

import hashlib
import hmac
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_to_bytes, urlsplit
from xml.etree import ElementTree

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from twisted.trial.unittest import SkipTest

REGION = "us-east-1"


@dataclass(frozen=True, slots=True)
class Keys:
    """What a user proves himself with."""

    access_key: str
    secret_key: str
    user_id: str = ""


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


# ── bytes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """What came back: ``headers`` by lower-case name."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The code of an error document, empty when the body is none."""
        return self.element("Code")

    def element(self, name: str) -> str:
        """Return the text of an element right below the root of the body; empty when there is none."""
        if not self.body.startswith(b"<?xml"):
            return ""
        return ElementTree.fromstring(self.body).findtext(name) or ""


class RawClient:
    """
    Speaks S3 over a socket of its own, one request per connection, signed with Signature Version 4.

    Written from the description of the signature in the S3 API Reference, not from the product's code.
    """

    def __init__(self, port: int, keys: Keys | None, *, context: ssl.SSLContext | None = None) -> None:
        self._port = port
        self._keys = keys
        self._context = context
        self._host = f"127.0.0.1:{port}"

    def ask(
        self,
        method: str,
        target: str | bytes,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        payload: str | None = None,
        length: int | None = None,
        sends: bytes | None = None,
        unsigned_headers: Mapping[str, str] | None = None,
        shifted_seconds: float = 0.0,
        region: str = REGION,
        closes_early: bool = False,
    ) -> RawAnswer:
        """
        Send one request and return the answer.

        :param target: path and query exactly as they go onto the request line
        :param payload: value of x-amz-content-sha256; None for the body's hash
        :param length: Content-Length, where it shall not be the body's; -1 for none
        :param sends: the bytes that go behind the headers, where they shall not be the body
        :param shifted_seconds: how far the clock of the signature is from the true time
        :param closes_early: close our side when everything is sent
        """
        raw = target if isinstance(target, bytes) else target.encode()
        sent = {"host": self._host, **{name.lower(): value for name, value in (headers or {}).items()}}
        if self._keys is not None:
            sent |= self._signed(method, raw, body, sent, payload, shifted_seconds, region)
        if length != -1 and (body or method in ("PUT", "POST") or length is not None):
            sent.setdefault("content-length", str(len(body) if length is None else length))
        sent |= unsigned_headers or {}
        lines = [method.encode() + b" " + raw + b" HTTP/1.1"]
        lines += [f"{name}: {value}".encode() for name, value in sent.items()]
        lines.append(b"connection: close")
        message = b"\r\n".join(lines) + b"\r\n\r\n" + (body if sends is None else sends)
        return self.exchange(message, closes_early=closes_early)

    def exchange(self, message: bytes, *, closes_early: bool = False) -> RawAnswer:
        """Send bytes; return the first final answer."""
        with socket.create_connection(("127.0.0.1", self._port), timeout=30) as plain:
            connection = self._context.wrap_socket(plain) if self._context else plain
            try:
                connection.sendall(message)
                if closes_early:
                    connection.shutdown(socket.SHUT_WR)
            except (BrokenPipeError, ConnectionResetError):
                pass
            received = b""
            while not (answer := _parsed(received)):
                try:
                    piece = connection.recv(65536)
                except ConnectionResetError:
                    piece = b""
                if not piece:
                    return _parsed(received, is_all=True) or RawAnswer(0, {}, b"")
                received += piece
            return answer

    def _signed(
        self,
        method: str,
        raw: bytes,
        body: bytes,
        headers: Mapping[str, str],
        payload: str | None,
        shifted_seconds: float,
        region: str,
    ) -> dict[str, str]:
        assert self._keys is not None
        moment = datetime.fromtimestamp(time.time() + shifted_seconds, UTC).strftime("%Y%m%dT%H%M%SZ")
        hashed = hashlib.sha256(body).hexdigest() if payload is None else payload
        covered = {**headers, "x-amz-date": moment, "x-amz-content-sha256": hashed}
        path, _, query = raw.partition(b"?")
        pairs = sorted(
            (encoded(unquote_to_bytes(name)), encoded(unquote_to_bytes(value.replace(b"+", b" "))))
            for name, _, value in (item.partition(b"=") for item in query.split(b"&") if item)
        )
        names = sorted(covered)
        canonical = "\n".join(
            [
                method,
                encoded(unquote_to_bytes(path), safe="/~"),
                "&".join(f"{name}={value}" for name, value in pairs),
                *(f"{name}:{' '.join(covered[name].split())}" for name in names),
                "",
                ";".join(names),
                hashed,
            ]
        )
        scope = f"{moment[:8]}/{region}/s3/aws4_request"
        text = "\n".join(["AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        key = b"AWS4" + self._keys.secret_key.encode()
        for word in (moment[:8], region, "s3", "aws4_request"):
            key = hmac.digest(key, word.encode(), "sha256")
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        return {
            "x-amz-date": moment,
            "x-amz-content-sha256": hashed,
            "authorization": f"AWS4-HMAC-SHA256 Credential={self._keys.access_key}/{scope}, "
            f"SignedHeaders={';'.join(names)}, Signature={signature}",
        }


def encoded(raw: bytes | str, safe: str = "~") -> str:
    """Percent-encode as signatures want it."""
    return quote(raw, safe=safe)


def _parsed(received: bytes, *, is_all: bool = False) -> RawAnswer | None:
    """Return the first final answer in what was received, if it is complete."""
    head, ending, rest = received.partition(b"\r\n\r\n")
    if not ending:
        return None
    lines = head.decode("latin-1").split("\r\n")
    status = int(lines[0].split(" ")[1])
    if status == 100:
        return _parsed(rest, is_all=is_all)
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    length = headers.get("content-length")
    if status in (204, 304):
        return RawAnswer(status, headers, b"")
    if length is not None and len(rest) >= int(length):
        return RawAnswer(status, headers, rest[: int(length)])
    return RawAnswer(status, headers, rest) if is_all else None
