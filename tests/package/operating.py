"""What an operator and a client do with an installed ColdStore: its commands inside the machine, awscli at its loopback."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from subprocess import CompletedProcess
from typing import Any

from tests.endtoend.clients import Programs
from tests.endtoend.wire import Keys
from tests.package.machine import Machine

MIB = 1024**2
BODIES: Mapping[str, bytes] = {
    "small": b"Kaltes Band, ge\xc3\xb6ffnet\n" * 100,
    "in parts": Random(1).randbytes(9 * MIB),
}
"""What is archived: awscli uploads more than 8 MiB in parts."""
STEP_SECONDS = 180
"""How long a step may take on a busy machine."""


class Operator:
    """The ``coldstore`` command inside a machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def order(self, *words: str) -> str:
        """Run it for its text."""
        return self.machine.run("coldstore", *words)

    def ask(self, *words: str) -> Any:
        """Run it for its JSON."""
        return json.loads(self.machine.run("coldstore", *words, "--json"))

    def mounted(self) -> list[str]:
        """Return the barcodes of mounted cartridges."""
        return sorted(row["barcode"] for row in self.ask("drives") if row["is_mounted"])


class Client(Programs):
    """awscli in the machine's network, for a new user; files lie in a folder outside."""

    def __init__(
        self, machine: Machine, folder: Path, keys: Keys, endpoint: str = "http://127.0.0.1:8420"
    ) -> None:
        super().__init__(endpoint, keys, folder)
        self._network = ["nsenter", f"--target={machine.leader}", "--net", "--"]

    def _run(
        self, command: Sequence[str], environment: Mapping[str, str], **options: Any
    ) -> CompletedProcess[str]:
        return super()._run([*self._network, *command], environment, **{"seconds": STEP_SECONDS, **options})

    def get(self, bucket: str, key: str) -> bytes:
        """Read an object."""
        target = self.home / "got"
        self.aws("s3api", "get-object", "--bucket", bucket, "--key", key, str(target))
        body = target.read_bytes()
        target.unlink()
        return body

    def put(self, bucket: str, key: str, body: bytes) -> None:
        """Write an object as GLACIER."""
        source = self.home / "put"
        source.write_bytes(body)
        self.aws(
            "s3",
            "cp",
            "--only-show-errors",
            "--storage-class",
            "GLACIER",
            str(source),
            f"s3://{bucket}/{key}",
        )

    def refusal(self, bucket: str, key: str) -> str:
        """Return what a read that must fail says."""
        return self.aws("s3api", "get-object", "--bucket", bucket, "--key", key, "never", status=None).stderr

    def restore(self, bucket: str, key: str) -> None:
        """Ask for a restored copy, at once."""
        wish = "Days=1,GlacierJobParameters={Tier=Expedited}"
        self.aws("s3api", "restore-object", "--bucket", bucket, "--key", key, "--restore-request", wish)


def new_keys(operator: Operator, name: str = "archivist") -> Keys:
    """Make a user."""
    made = operator.ask("user", "create", name)
    return Keys(made["access_key"], made["secret_key"], made["user_id"])


def archive(operator: Operator, client: Client, bucket: str, bodies: Mapping[str, bytes]) -> None:
    """Write objects, and have them archived: two verified copies on two cartridges, and reads refused."""
    for key, body in bodies.items():
        client.put(bucket, key, body)
    operator.order("archive", "--now")
    operator.order("wait", bucket, "--timeout", str(STEP_SECONDS))
    for row in operator.ask("objects", bucket):
        assert row["state"] == "archived", row
        verified = [copy for copy in row["copies"] if copy["state"] == "verified"]
        assert len({copy["barcode"] for copy in verified}) == 2, row
    for key in bodies:
        said = client.refusal(bucket, key)
        assert "InvalidObjectState" in said, said


def bring_back(operator: Operator, client: Client, bucket: str, bodies: Mapping[str, bytes]) -> None:
    """Restore archived objects, and compare them."""
    for key in bodies:
        client.restore(bucket, key)
    for key, body in bodies.items():
        operator.order("wait", bucket, key, "--restored", "--timeout", str(STEP_SECONDS))
        assert client.get(bucket, key) == body, key
