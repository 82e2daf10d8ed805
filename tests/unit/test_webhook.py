"""Webhook delivery: who gets what, signed how, and what counts as delivered."""

import hashlib
import hmac
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from coldstore.interfaces.notify import DeliveryFailed
from coldstore.model.events import OutboxMessage
from coldstore.notify.webhook import WebhookNotifier, WebhookTarget, signature

MESSAGE = OutboxMessage(
    message_id=7,
    event="s3:ObjectRestore:Completed",
    bucket="b",
    key=b"k",
    body='{"Records":[]}',
    created_at=0.0,
    attempts=0,
    next_attempt_at=0.0,
    last_error="",
)


class Response:
    """An HTTP answer with nothing but a status."""

    def __init__(self, code: int) -> None:
        self.code = code


class RecordingClient:
    """Remembers what was posted and answers as told."""

    def __init__(self, *answers: "Response | Exception") -> None:
        self.answers = list(answers)
        self.posts: list[tuple[str, dict[str, Any]]] = []

    def post(self, url: str, **options: Any) -> "Deferred[Any]":
        self.posts.append((url, options))
        answer = self.answers.pop(0)
        return fail(answer) if isinstance(answer, Exception) else succeed(answer)


def target(
    name: str = "t", *, events: tuple[str, ...] = ("s3:ObjectRestore:*",), secret: bytes | None = None
) -> WebhookTarget:
    return WebhookTarget(name=name, url=f"http://127.0.0.1/{name}", secret=secret, events=events)


class WebhookTests(SynchronousTestCase):
    """``WebhookNotifier``."""

    def notifier(self, client: RecordingClient, *targets: WebhookTarget) -> WebhookNotifier:
        clock = Clock()
        clock.advance(1000)
        return WebhookNotifier(
            targets=targets,
            post=client.post,
            clock=clock,
            timeout_seconds=5,
            read_body=lambda _response: succeed(b""),
        )

    def test_only_who_wants_it(self) -> None:
        """A message goes to every target whose patterns match its event, and to no other."""
        client = RecordingClient(Response(200), Response(204))
        wants = [target("a"), target("b", events=("s3:ObjectCreated:*",)), target("c", events=("*",))]
        self.successResultOf(self.notifier(client, *wants).deliver(MESSAGE))
        self.assertEqual([url for url, _ in client.posts], ["http://127.0.0.1/a", "http://127.0.0.1/c"])
        self.assertEqual(client.posts[0][1]["data"], MESSAGE.body.encode())
        self.assertIs(client.posts[0][1]["allow_redirects"], False)

    def test_nobody_wants_it(self) -> None:
        """A message that no target wants is delivered."""
        self.successResultOf(self.notifier(RecordingClient()).deliver(MESSAGE))

    def test_signature(self) -> None:
        """The signature covers the time and the body."""
        client = RecordingClient(Response(200))
        self.successResultOf(self.notifier(client, target(secret=b"key")).deliver(MESSAGE))
        expected = hmac.new(b"key", b"1000." + MESSAGE.body.encode(), hashlib.sha256).hexdigest()
        self.assertEqual(client.posts[0][1]["headers"]["X-ColdStore-Signature"], f"t=1000,v1={expected}")
        self.assertEqual(signature(b"key", 1000, MESSAGE.body.encode()), f"t=1000,v1={expected}")

    def test_refusal(self) -> None:
        """An answer other than 2xx, a redirect included, is a failure that names the target."""
        for code in (302, 404, 500):
            failure = self.failureResultOf(
                self.notifier(RecordingClient(Response(code)), target("x")).deliver(MESSAGE)
            )
            failure.trap(DeliveryFailed)
            self.assertIn("x", str(failure.value))

    def test_one_failure_does_not_spare_the_others(self) -> None:
        """A target that is away does not keep a message from the next one."""
        client = RecordingClient(ConnectionRefusedError(), Response(200))
        self.failureResultOf(self.notifier(client, target("a"), target("b")).deliver(MESSAGE), DeliveryFailed)
        self.assertEqual(len(client.posts), 2)
