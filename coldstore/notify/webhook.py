"""
Webhooks: a message is POSTed as JSON to every target that wants its event.

A target with a secret can prove where a message comes from and when it was sent: ``X-ColdStore-Signature`` is
``t=<unix seconds>,v1=<hex HMAC-SHA256 of "<t>." + body>``. Redirects are not followed: a message goes only where an
operator said.
"""

import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.error import ConnectError, ConnectionClosed, DNSLookupError
from twisted.internet.interfaces import IReactorTime
from twisted.web.client import ResponseNeverReceived
from zope.interface import implementer

from coldstore.interfaces.notify import DeliveryFailed, INotifier
from coldstore.model.events import OutboxMessage, is_wanted
from coldstore.util.asynchronous import returns_deferred

CONNECTION_FAULTS = (
    ConnectError,
    ConnectionClosed,
    DNSLookupError,
    ResponseNeverReceived,
    TimeoutError,
    OSError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookTarget:
    """One target. ``events`` are names such as ``s3:ObjectRestore:Completed``; ``*`` at the end stands for any rest."""

    name: str
    url: str
    secret: bytes | None
    events: tuple[str, ...]

    def wants(self, event: str) -> bool:
        """Whether an event is for this target."""
        return any(is_wanted(event, pattern) for pattern in self.events)


def signature(secret: bytes, at: int, body: bytes) -> str:
    """Return the signature header's value."""
    digest = hmac.digest(secret, f"{at}.".encode() + body, "sha256").hex()
    return f"t={at},v1={digest}"


@implementer(INotifier)
class WebhookNotifier:
    """Delivers by HTTP."""

    def __init__(
        self,
        *,
        targets: Sequence[WebhookTarget],
        post: Callable[..., Deferred[Any]],
        clock: IReactorTime,
        timeout_seconds: float,
        read_body: Callable[[Any], "Deferred[bytes]"],
    ) -> None:
        """
        :param post: ``treq.client.HTTPClient.post`` or its like
        :param read_body: reads a response to its end, so that its connection is free again
        """
        self._targets = tuple(targets)
        self._post_url = post
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._read_body = read_body

    @returns_deferred
    async def deliver(self, message: OutboxMessage) -> None:
        """See ``INotifier.deliver``."""
        failures = []
        for target in self._targets:
            if target.wants(message.event):
                try:
                    await self._post(target, message)
                except DeliveryFailed as failure:
                    failures.append(str(failure))
        if failures:
            raise DeliveryFailed("; ".join(failures))

    async def _post(self, target: WebhookTarget, message: OutboxMessage) -> None:
        body = message.body.encode()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "ColdStore",
            "X-ColdStore-Event": message.event,
            "X-ColdStore-Message": str(message.message_id),
        }
        if target.secret is not None:
            headers["X-ColdStore-Signature"] = signature(target.secret, int(self._clock.seconds()), body)
        try:
            response = await self._post_url(
                target.url, data=body, headers=headers, allow_redirects=False, timeout=self._timeout_seconds
            )
            await self._read_body(response)
        except CancelledError:
            raise
        except CONNECTION_FAULTS as fault:
            raise DeliveryFailed(f"{target.name}: {type(fault).__name__}: {fault}") from fault
        if not 200 <= response.code < 300:
            raise DeliveryFailed(f"{target.name}: answered {response.code}")
