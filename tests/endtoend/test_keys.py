"""Users with several access keys, the master key that their secrets are encrypted under, and certificates: as clients see them."""

import os
import signal
import socket
import ssl
import time
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from botocore.exceptions import ClientError
from twisted.trial.unittest import SynchronousTestCase

from tests.certificates import Authority
from tests.endtoend.appliance import Appliance, ApplianceCase, merged, wait_until
from tests.endtoend.clients import boto_client
from tests.endtoend.rawclient import RawClient
from tests.endtoend.test_operator import OperatorCase
from tests.endtoend.wire import Keys
from tests.ports import free_port


def code_of(ask: Any, **arguments: Any) -> str:
    """Return the code with which a call is refused; empty when it is not."""
    try:
        ask(**arguments)
    except ClientError as refusal:
        return str(refusal.response["Error"]["Code"])
    return ""


def keys_of(made: dict[str, str]) -> Keys:
    """Return what a command has shown of a new key."""
    return Keys(made["access_key"], made["secret_key"], made["user_id"])


class KeysTests(OperatorCase):
    """A user's keys, from the first to the last."""

    def test_several_keys(self) -> None:
        """One key is changed for another while both work; a disabled one is refused at once, on a connection that is open, too."""
        first = keys_of(self.tell("user", "create", "carol"))
        old = boto_client(self.appliance.endpoint, first)
        old.create_bucket(Bucket="of-carol")
        made = self.tell("keys", "create", "carol")
        self.assertEqual(made["user_id"], first.user_id)
        second = keys_of(made)
        new = boto_client(self.appliance.endpoint, second)
        new.put_object(Bucket="of-carol", Key="k", Body=b"x")
        self.assertEqual(old.get_object(Bucket="of-carol", Key="k")["Body"].read(), b"x")

        listed = self.say("keys", "list", "carol")
        self.assertIn(first.access_key, listed)
        self.assertNotIn(second.secret_key, listed + self.say("user", "list") + self.say("audit"))

        def has_been_used() -> bool:
            found = {row["access_key"]: row for row in self.tell("keys", "list", "carol")}
            return all(found[key.access_key]["last_used_at"] for key in (first, second))

        wait_until("the last use of both keys is known", has_been_used)

        self.say("keys", "disable", first.access_key)
        self.assertEqual(code_of(old.list_buckets), "InvalidAccessKeyId")
        self.assertEqual(code_of(new.list_buckets), "")
        self.say("keys", "enable", first.access_key)
        self.assertEqual(code_of(old.list_buckets), "")
        self.assertIn("disable it first", self.say("keys", "delete", first.access_key, status=1))
        self.say("keys", "disable", first.access_key)
        self.assertIn("is deleted", self.say("keys", "delete", first.access_key))
        self.assertEqual(code_of(old.list_buckets), "InvalidAccessKeyId")

        self.say("user", "disable", "carol")
        self.assertEqual(code_of(new.list_buckets), "InvalidAccessKeyId")
        self.assertIn("disabled", self.say("user", "list"))
        self.say("user", "enable", "carol")
        self.assertIn("of-carol", self.say("user", "delete", "carol", status=1))
        new.delete_object(Bucket="of-carol", Key="k")
        new.delete_bucket(Bucket="of-carol")
        self.assertIn("is deleted", self.say("user", "delete", "carol"))
        self.assertEqual(code_of(new.list_buckets), "InvalidAccessKeyId")
        self.assertIn("no user carol", self.say("keys", "create", "carol", status=1))

    def test_post_to_the_root(self) -> None:
        """A form that is sent to the root is not allowed there, whoever sends it, and whatever stands behind a question mark."""
        client = RawClient(self.appliance.port, self.appliance.users["first"])
        self.addCleanup(client.close)
        for target in ("/", "/?versioning"):
            client.send(f"POST {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n".encode())
            answer = client.answer()
            self.assertEqual(answer.status, 405)
            self.assertIn(b"<Code>MethodNotAllowed</Code>", answer.body)
            self.assertEqual(answer.headers["allow"], "GET")
        client.ask("POST", "/", size_bytes=0)
        self.assertEqual(client.answer().status, 405)


class MasterKeyTests(SynchronousTestCase):
    """The file, over several lives."""

    def test_life(self) -> None:
        """No secret is in the clear in any file; another master key changes nothing for clients; without the file there is no start."""
        appliance = Appliance()
        self.addCleanup(appliance.close)
        appliance.start()
        keys = appliance.users["first"]
        s3 = boto_client(appliance.endpoint, keys)
        s3.create_bucket(Bucket="bucket")
        key_file = appliance.state / "master.key"
        self.assertEqual(key_file.stat().st_mode & 0o777, 0o600)
        before = key_file.read_bytes()
        done = appliance.command("keys", "rotate-master")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("2 secrets", done.stdout)
        self.assertNotEqual(key_file.read_bytes(), before)
        self.assertEqual(code_of(s3.list_buckets), "")
        self.assertEqual(self.files_with(appliance.state, keys.secret_key.encode()), [])
        self.assertTrue(self.files_with(appliance.state, b"coldstore-master-key-1"))

        appliance.stop()
        away = appliance.folder / "copy"
        key_file.rename(away)
        self.refuses(appliance, "put back the copy that you keep")
        key_file.write_bytes(before)
        key_file.chmod(0o644)
        self.refuses(appliance, "chmod 600")
        away.replace(key_file)
        appliance.start()
        self.assertEqual(code_of(s3.list_buckets), "")

    def refuses(self, appliance: Appliance, why: str) -> None:
        """It does not start, and says why in one line."""
        appliance.new_log()
        appliance.launch()
        assert appliance.process is not None
        self.assertEqual(appliance.process.wait(60), 1)
        said = appliance.new_log()
        self.assertIn(why, said)
        self.assertNotIn("Traceback", said)

    def files_with(self, folder: Path, content: bytes) -> list[str]:
        """Return the files in which some bytes are."""
        return [str(path) for path in folder.rglob("*") if path.is_file() and content in path.read_bytes()]


class CertificateTests(ApplianceCase):
    """TLS beside an endpoint in the clear."""

    @classmethod
    def make_appliance(cls) -> Appliance:
        """Return an appliance with a certificate that an authority has signed, and one more port."""
        cls.authority = Authority()
        cls.plain_port = free_port()
        appliance = Appliance(cls.settings)
        cls.root, cls.file = appliance.folder / "root.pem", appliance.folder / "server.pem"
        cls.root.write_bytes(cls.authority.root)
        cls.issue()
        appliance.certificate = cls.root
        ssl_endpoint = f"ssl:{appliance.port}:interface=127.0.0.1:privateKey={cls.file}"
        endpoints = [f"tcp:{cls.plain_port}:interface=127.0.0.1", ssl_endpoint]
        appliance.settings = merged(
            appliance.settings, {"server": {"endpoints": endpoints, "domains": ["s3.test"]}}
        )
        appliance.write_configuration()
        return appliance

    authority: Authority
    plain_port: int
    root: Path
    file: Path

    @classmethod
    def issue(cls, *names: str) -> None:
        """Put a new certificate with all that belongs to it into the file, at once."""
        certificate, key = cls.authority.issue(*(names or ("127.0.0.1", "s3.test", "*.s3.test")))
        fresh = cls.file.with_suffix(".new")
        fresh.write_bytes(key + certificate + cls.authority.intermediate)
        fresh.replace(cls.file)

    def context(self) -> ssl.SSLContext:
        """Return what trusts the root alone."""
        return ssl.create_default_context(cafile=str(self.root))

    def serial(self) -> str:
        """Return what tells the certificate of a new connection from others."""
        client = RawClient(self.appliance.port, self.appliance.users["first"], context=self.context())
        self.addCleanup(client.close)
        assert isinstance(client.socket, ssl.SSLSocket)
        certificate = client.socket.getpeercert()
        assert certificate is not None
        return str(certificate["serialNumber"])

    def test_both_ports(self) -> None:
        """boto3 is served over TLS, where it knows the root alone, and in the clear."""
        bucket = self.bucket()
        self.s3.put_object(Bucket=bucket, Key="k", Body=b"over TLS")
        plain = boto_client(f"http://127.0.0.1:{self.plain_port}", self.appliance.users["first"])
        self.assertEqual(plain.get_object(Bucket=bucket, Key="k")["Body"].read(), b"over TLS")

    def test_the_wrong_port(self) -> None:
        """Who speaks plain HTTP to the port of TLS is told so; who speaks TLS to the plain one is refused at once."""
        with self.assertRaises(HTTPError) as told, urlopen(f"http://127.0.0.1:{self.appliance.port}/"):
            pass
        self.assertEqual(told.exception.code, 400)
        self.assertIn(b"https", told.exception.read())
        told.exception.close()
        began_at = time.monotonic()
        with socket.create_connection(("127.0.0.1", self.plain_port)) as plain:
            self.assertRaises(ssl.SSLError, self.context().wrap_socket, plain, server_hostname="127.0.0.1")
        self.assertLess(time.monotonic() - began_at, 10)
        wait_until("the log tells", lambda: "This looks like TLS" in self.appliance.log())

    def test_virtual_hosts(self) -> None:
        """A bucket is a host of its own below a wildcard, with the port in the Host field and in what is signed."""
        bucket = self.bucket()
        self.s3.put_object(Bucket=bucket, Key="k", Body=b"by its host")
        client = RawClient(
            self.appliance.port,
            self.appliance.users["first"],
            context=self.context(),
            host=f"{bucket}.s3.test",
        )
        self.addCleanup(client.close)
        client.ask("GET", "/k")
        answer = client.answer()
        self.assertEqual((answer.status, answer.body), (200, b"by its host"))
        client.ask("PUT", "/other", size_bytes=1)
        client.send(b"x")
        self.assertEqual(client.answer().status, 200)
        self.assertEqual(self.s3.get_object(Bucket=bucket, Key="other")["Body"].read(), b"x")

    def test_without_a_restart(self) -> None:
        """A new certificate is used after SIGHUP, and after a command; one that is broken is not, and an alert says so."""
        process = self.appliance.process
        assert process is not None
        before = self.serial()
        self.issue()
        os.kill(process.pid, signal.SIGHUP)
        wait_until("the new certificate is used", lambda: self.serial() != before)
        before = self.serial()
        self.issue()
        done = self.appliance.command("reload")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("CN=127.0.0.1", done.stdout)
        self.assertNotEqual(self.serial(), before)
        before = self.serial()
        self.file.write_bytes(b"broken")
        self.assertIn("stays in use", self.appliance.command("reload").stdout)
        self.assertEqual(self.serial(), before)
        self.assertIn("server.pem", self.appliance.command("alerts").stdout)
        self.issue()
        self.appliance.command("reload")
        self.assertNotEqual(self.serial(), before)
        self.assertNotIn("server.pem", self.appliance.command("alerts").stdout)
        self.assertIsNone(process.poll())
