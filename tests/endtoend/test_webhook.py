"""Notifications: a local HTTP server is told of a restore, as configured, signed, and although it was away."""

import hmac
import json
import re
import threading
import time
from collections.abc import Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.endtoend.appliance import Appliance, ApplianceCase, merged, wait_until
from tests.ports import free_port

SECRET = b"a secret of the two of us"


class Receiver:
    """A web server on loopback that keeps what is posted to it."""

    def __init__(self, port: int, statuses: Sequence[int] = ()) -> None:
        """:param statuses: what the first requests are answered; later ones 200"""
        self.received: list[tuple[str, dict[str, str], bytes, int]] = []
        left = list(statuses)
        received = self.received

        class Answering(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status = left.pop(0) if left else 200
                headers = {name.lower(): value for name, value in self.headers.items()}
                received.append((self.path, headers, body, status))
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Answering)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class WebhookTests(ApplianceCase):
    """Messages about restores."""

    port = 0
    other_port = 0

    @classmethod
    def make_appliance(cls) -> Appliance:
        """Return an appliance with two targets: one wants restores that are complete, one wants another event."""
        cls.port, cls.other_port = free_port(), free_port()
        appliance = Appliance(cls.settings)
        secret = appliance.folder / "secret"
        secret.write_bytes(SECRET + b"\n")
        hooks = [
            {
                "name": "billing",
                "url": f"http://127.0.0.1:{cls.port}/events?from=coldstore",
                "secret_file": str(secret),
                "events": ["s3:ObjectRestore:Completed"],
            },
            {
                "name": "other",
                "url": f"http://127.0.0.1:{cls.other_port}/",
                "events": ["s3:ObjectRestore:Delete"],
            },
        ]
        appliance.settings = merged(
            appliance.settings,
            {"notify": {"webhooks": hooks, "pause_first": "500ms", "pause_max": "1s", "timeout": "5s"}},
        )
        appliance.write_configuration()
        return appliance

    def restored(self, key: str) -> tuple[str, str]:
        """Have an object restored; return its bucket and ``x-amz-restore``."""
        bucket = self.bucket()
        self.s3.put_object(Bucket=bucket, Key=key, Body=b"x" * 1234, StorageClass="GLACIER")
        self.appliance.archive((bucket, key))
        self.s3.restore_object(Bucket=bucket, Key=key, RestoreRequest={"Days": 3})

        def header() -> str:
            return str(self.s3.head_object(Bucket=bucket, Key=key).get("Restore", ""))

        wait_until("it is restored", lambda: 'ongoing-request="false"' in header(), seconds=60)
        return bucket, header()

    def assert_message(
        self, message: tuple[str, dict[str, str], bytes, int], bucket: str, key: str, restore: str
    ) -> None:
        """Check a message wholly."""
        path, headers, body, _ = message
        self.assertEqual(path, "/events?from=coldstore")
        self.assertEqual(headers["content-type"], "application/json")
        self.assertEqual(headers["x-coldstore-event"], "s3:ObjectRestore:Completed")
        match = re.fullmatch(r"t=(\d+),v1=([0-9a-f]{64})", headers["x-coldstore-signature"])
        assert match
        self.assertEqual(hmac.digest(SECRET, match[1].encode() + b"." + body, "sha256").hex(), match[2])
        self.assertLess(abs(time.time() - int(match[1])), 60)
        (record,) = json.loads(body)["Records"]
        self.assertEqual((record["eventName"], record["eventSource"]), ("ObjectRestore:Completed", "aws:s3"))
        self.assertEqual(record["s3"]["bucket"]["name"], bucket)
        self.assertEqual((record["s3"]["object"]["key"], record["s3"]["object"]["size"]), (key, 1234))
        ends_at = record["glacierEventData"]["restoreEventData"]["lifecycleRestorationExpiryTime"]
        shown = re.search('expiry-date="(.*)"', restore)
        assert shown
        self.assertEqual(
            datetime.fromisoformat(ends_at).timestamp(), parsedate_to_datetime(shown[1]).timestamp()
        )

    def test_delivered(self) -> None:
        """A target gets exactly the event that it wants, once, signed; another target gets nothing of it."""
        receiver, other = Receiver(self.port), Receiver(self.other_port)
        self.addCleanup(receiver.close)
        self.addCleanup(other.close)
        bucket, restore = self.restored("a ü+b/c")
        wait_until("the message arrives", lambda: receiver.received)
        wait_until("the outbox is empty", lambda: self.appliance.ask("/status")["outbox_messages"] == 0)
        (message,) = receiver.received
        self.assert_message(message, bucket, "a+%C3%BC%2Bb/c", restore)
        self.assertEqual(other.received, [])

    def test_away_at_first(self) -> None:
        """A target that is away, and then fails, gets the message once it is well; a restart does not lose it."""
        bucket, restore = self.restored("k")
        wait_until("a message waits", lambda: self.appliance.ask("/status")["outbox_messages"] == 1)
        self.appliance.kill()
        self.appliance.start()
        receiver = Receiver(self.port, statuses=[500, 302, 404])
        self.addCleanup(receiver.close)
        wait_until("the outbox is empty", lambda: self.appliance.ask("/status")["outbox_messages"] == 0)
        self.assertEqual([status for _, _, _, status in receiver.received], [500, 302, 404, 200])
        for message in receiver.received:
            self.assert_message(message, bucket, "k", restore)
        self.assertEqual(len({headers["x-coldstore-message"] for _, headers, _, _ in receiver.received}), 1)
