"""The S3 side in memory with several users: alice, who owns the bucket photos, bob, and whoever does not sign."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred, succeed

from coldstore.model.keys import AccessKey, Signer
from coldstore.model.objects import User
from coldstore.model.policies import UserPolicy
from coldstore.s3.auth import Authenticator
from tests.unit.s3_rig import Rig
from tests.unit.s3_wire import HOST, NOW, SECRET_KEY, USER, ParsedAnswer, Wire, message, signed_headers

BOB = Signer(user_id="u-2", name="bob", access_key="AKBOB", secret_key=SECRET_KEY)
ARN = "arn:aws:s3:::photos"
EVERYBODY = {"Principal": "*"}
TO_BOB = {"Principal": {"AWS": "arn:aws:iam::u-2:user/bob"}}


def statement(
    action: str | list[str], resource: str = f"{ARN}/*", effect: str = "Allow", **more: Any
) -> dict[str, Any]:
    """Return a statement of a policy."""
    return {"Effect": effect, "Action": action, "Resource": resource, **more}


def policy(*statements: Mapping[str, Any]) -> bytes:
    """Write a policy."""
    return json.dumps({"Version": "2012-10-17", "Statement": statements}).encode()


class PolicyRig(Rig):
    """One endpoint with two users."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.signers = {"alice": USER, "bob": BOB}
        for signer in self.signers.values():
            key = AccessKey(
                access_key=signer.access_key, user_id=signer.user_id, sealed_secret="s", created_at=NOW
            )
            self.store.create_user(User(user_id=signer.user_id, name=signer.name, created_at=NOW), key)
        self.put("/photos")

    def wire(self) -> Wire:
        """Open a connection."""
        authenticator = Authenticator(look_up=self._look_up, seconds=self.clock.seconds, region="us-east-1")
        return Wire(self.operations.registry(), clock=self.clock, authenticator=authenticator)

    def _look_up(self, access_key: str) -> "Deferred[Signer | None]":
        known = {signer.access_key: signer for signer in self.signers.values()}
        return succeed(known.get(access_key))

    def give(self, name: str, *documents: bytes) -> None:
        """Give a user policies, in place of those that he has."""
        self.signers[name] = replace(
            self.signers[name],
            policies=tuple(
                UserPolicy(name=f"p{number}", document=document.decode())
                for number, document in enumerate(documents)
            ),
        )

    def said(
        self, name: str | None, method: str, target: str, body: bytes = b"", **headers: str
    ) -> ParsedAnswer:
        """Send a request of a user, or (None) of nobody; underscores in names of headers stand for dashes."""
        fields = {field.replace("_", "-"): value for field, value in headers.items()}
        if name is None:
            sent = {"host": HOST, **fields}
        else:
            signer = self.signers[name]
            sent = signed_headers(
                method,
                target,
                fields,
                payload="UNSIGNED-PAYLOAD",
                seconds=self.clock.seconds(),
                access_key=signer.access_key,
                secret_key=signer.secret_key,
            )
        if body or method in ("PUT", "POST"):
            sent["content-length"] = str(len(body))
        wire = self.wire()
        wire.send(message(method, target, sent, body))
        return wire.answer()

    def set_policy(self, *statements: Mapping[str, Any]) -> ParsedAnswer:
        """Have alice put a policy of the bucket photos."""
        return self.said("alice", "PUT", "/photos?policy", policy(*statements))
