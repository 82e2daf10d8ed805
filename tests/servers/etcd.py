"""
A private etcd 3.4, of one member or of three, for the tests of one process; ``clear()`` empties it between two of them.

Spoken to by its JSON gateway: keys and values are base64.
"""

import json
import time
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from ssl import create_default_context
from typing import Any
from urllib.error import URLError
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener

from tests.ports import free_port
from tests.servers.processes import (
    PAUSE_SECONDS,
    READY_SECONDS,
    STARTS,
    NotRunning,
    ServerProcess,
    SmallDisk,
    program,
)

CALL_SECONDS = 20.0
_direct = build_opener(ProxyHandler({}))
_ALL = b64encode(b"\0").decode()
"""As key and as end of a range: every key."""


@dataclass(frozen=True, kw_only=True)
class Tls:
    """
    Files: the server's certificate, which trusts itself, and its key; the same of its one client; and both certificates, because
    etcd's gateway calls etcd with the server's.
    """

    certificate: Path
    key: Path
    client_certificate: Path
    client_key: Path
    trusted: Path

    @property
    def flags(self) -> list[str]:
        """What etcd is told."""
        return [
            f"--cert-file={self.certificate}", f"--key-file={self.key}", "--client-cert-auth",
            f"--trusted-ca-file={self.trusted}",
        ]  # fmt: skip


class Etcd(ServerProcess):
    """A cluster of one member."""

    user = "nobody"

    def __init__(
        self, *flags: str, quota_bytes: int = 0, disk: SmallDisk | None = None, tls: Tls | None = None
    ) -> None:
        """
        Start one.

        :param flags: more of its command line
        :param quota_bytes: how large its file may become until it refuses to write; 0 is etcd's default
        :param tls: how its clients speak to it; None: in the clear
        :raise SkipTest: etcd is not installed
        """
        self._flags = list(flags)
        self._quota_bytes = quota_bytes
        self._tls = tls
        self._open = _direct.open
        if tls is not None:
            context = create_default_context(cafile=str(tls.certificate))
            context.load_cert_chain(tls.client_certificate, tls.client_key)
            self._open = build_opener(ProxyHandler({}), HTTPSHandler(context=context)).open
        self.program = program("etcd")
        super().__init__(disk=disk)

    @property
    def url(self) -> str:
        """Where clients find it."""
        # Certificates of the tests are for a name.
        return f"http://127.0.0.1:{self.port}" if self._tls is None else f"https://localhost:{self.port}"

    def _peers(self) -> tuple[str, Mapping[str, str]]:
        """Return the member's name, and where each member of the cluster listens for the others, by name."""
        # Nobody calls there, but the member wants to listen.
        return "one", {"one": f"http://127.0.0.1:{free_port()}"}

    def _command(self) -> Sequence[str]:
        name, peers = self._peers()
        return [
            self.program, f"--name={name}", f"--data-dir={self.folder}/data", "--log-level=warn", "--logger=zap",
            f"--listen-client-urls={self.url.replace('localhost', '127.0.0.1')}", f"--advertise-client-urls={self.url}",
            f"--listen-peer-urls={peers[name]}", f"--initial-advertise-peer-urls={peers[name]}",
            f"--initial-cluster={','.join(f'{one}={where}' for one, where in peers.items())}",
            f"--quota-backend-bytes={self._quota_bytes}", *self._flags,
            *([] if self._tls is None else self._tls.flags),
        ]  # fmt: skip

    def is_ready(self) -> bool:
        """Whether it has a leader, which is what it needs to write."""
        try:
            with self._open(f"{self.url}/health", timeout=CALL_SECONDS) as answer:
                return json.load(answer) == {"health": "true"}
        except (URLError, OSError):
            return False

    def call(self, name: str, fields: Mapping[str, Any], *, seconds: float = CALL_SECONDS) -> Any:
        """
        Call the gateway; return its answer. Blocks.

        :raise urllib.error.HTTPError: it refused
        """
        request = Request(f"{self.url}/v3/{name}", data=json.dumps(fields).encode(), method="POST")
        with self._open(request, timeout=seconds) as answer:
            return json.load(answer)

    def put(self, key: bytes, value: bytes) -> None:
        """Set a key."""
        self.call("kv/put", {"key": b64encode(key).decode(), "value": b64encode(value).decode()})

    def get(self, key: bytes) -> bytes | None:
        """Return what a key is set to."""
        rows = self.call("kv/range", {"key": b64encode(key).decode()}).get("kvs", [])
        return b64decode(rows[0].get("value", "")) if rows else None

    def remove_below(self, prefix: str) -> None:
        """Delete every key that begins with this."""
        begin = prefix.encode()
        end = begin[:-1] + bytes([begin[-1] + 1])
        self.call("kv/deleterange", {"key": b64encode(begin).decode(), "range_end": b64encode(end).decode()})

    def clear(self) -> None:
        """Delete every key and end every lease."""
        self.call("kv/deleterange", {"key": _ALL, "range_end": _ALL})
        for lease in self.call("lease/leases", {}).get("leases", []):
            self.call("lease/revoke", {"ID": lease["ID"]})


class Member(Etcd):
    """A member among several; it answers once most of them run."""

    def __init__(self, name: str, peers: Mapping[str, str]) -> None:
        """
        Begin one; it is not waited for.

        :param peers: see ``_peers``
        """
        self._said = (name, peers)
        # Few enough that a busy machine does not elect one leader after the other.
        super().__init__("--heartbeat-interval=200", "--election-timeout=2000")

    def _peers(self) -> tuple[str, Mapping[str, str]]:
        return self._said

    def _first_start(self) -> None:
        self.begin()


class Cluster:
    """
    Three members. A call of its own goes to one that runs.

    :ivar members: all of them, whether they run or not
    """

    def __init__(self) -> None:
        """
        Start it.

        :raise SkipTest: etcd is not installed
        """
        self.members: list[Member] = []
        for attempt in range(STARTS):
            peers = {f"member{number}": f"http://127.0.0.1:{free_port()}" for number in range(3)}
            try:
                for name in peers:
                    self.members.append(Member(name, peers))
                for member in self.members:
                    member.wait_until_ready()
                return
            except NotRunning as failure:
                self.remove()
                if attempt == STARTS - 1 or not failure.is_of_a_port:
                    raise

    @property
    def urls(self) -> list[str]:
        """Where clients find the members."""
        return [member.url for member in self.members]

    def leader(self) -> Member:
        """Wait until one leads; return it. All run."""
        end = time.monotonic() + READY_SECONDS
        while True:
            said = [member.call("maintenance/status", {}) for member in self.members]
            leaders = {one.get("leader") for one in said}
            for member, one in zip(self.members, said, strict=True):
                if leaders == {one["header"]["member_id"]}:
                    return member
            assert time.monotonic() < end, f"there is no leader: {said}"
            time.sleep(PAUSE_SECONDS)

    def make_whole(self) -> None:
        """Have every member run, and the cluster be empty."""
        for member in self.members:
            if member.is_running:
                member.thaw()
            else:
                member.begin()
        for member in self.members:
            member.wait_until_ready()
        self.members[0].clear()

    def remove(self) -> None:
        """Stop all, and remove their folders."""
        while self.members:
            self.members.pop().remove()


@cache
def cluster() -> Cluster:
    """
    Return the cluster of this process; what is done to its members, ``make_whole`` undoes.

    :raise SkipTest: etcd is not installed
    """
    return Cluster()


@cache
def shared() -> Etcd:
    """
    Return the one of this process, which is not to be stopped; it is empty.

    :raise SkipTest: etcd is not installed
    """
    return Etcd()
