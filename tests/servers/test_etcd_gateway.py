"""Calls of etcd's gateway, over connections that go wrong, with users, certificates and limits."""

import os
import tempfile
from base64 import b64encode
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, cast

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import Site
from twisted.web.static import Data

from coldstore.metadata.etcd.gateway import (
    Address,
    Compacted,
    Event,
    Gateway,
    Refused,
    Unknown,
    Watch,
    deleting,
    end_of,
    mod_revision_is,
    putting,
    reading,
)
from coldstore.metadata.etcd.keys import Keys
from coldstore.metadata.etcd.server import check_server, shortage
from coldstore.metadata.etcd.store import EtcdStore
from coldstore.model.errors import MetadataFull, MetadataUnavailable
from tests.ports import free_port
from tests.servers import etcd
from tests.servers.certificates import self_signed
from tests.servers.etcd import Etcd, Tls
from tests.servers.proxy import Fault, Proxy, Way

reactor = cast(Any, installed_reactor)
LONG_SECONDS = 30.0
"""A deadline that no test reaches."""
SHORT_SECONDS = 0.5
"""One that is reached."""


class OnGateways(TestCase):
    """Gateways that are closed at the end."""

    def gateway(self, *endpoints: str, seconds: float = LONG_SECONDS, **who: str) -> Gateway:
        """Make one."""
        made = Gateway(Address(endpoints=endpoints, **who), reactor=reactor, request_seconds=seconds)
        self.addCleanup(lambda: Deferred.fromCoroutine(made.close()))
        return made

    def relay(self, server: Etcd) -> Proxy:
        """Return a relay to a server."""
        proxy = Proxy(reactor, server.port)
        proxy.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(proxy.stop()))
        return proxy

    async def refused(self, kind: type[Exception], call: Awaitable[object]) -> Exception:
        """Return the failure of a call, which must be of this kind."""
        try:
            result = await call
        except kind as refusal:
            return refusal
        raise self.failureException(f"{kind.__name__} was expected, not {result!r}")


class CallTests(OnGateways):
    """What every call does."""

    def setUp(self) -> None:
        """Empty the server."""
        self.server = etcd.shared()
        self.server.clear()

    async def test_ranges(self) -> None:
        """Keys come in order, as many as asked for, as they are or as they were; bytes of any kind."""
        gateway = self.gateway(self.server.url)
        keys = [b"r/\0", b"r/\0/", b"r/a", b"r/\xff"]
        for number, key in enumerate(keys):
            self.server.put(key, bytes([number]))
        found = await gateway.range(b"r/", end_of(b"r/"))
        self.assertEqual(
            [(row.key, row.value) for row in found.rows], [(key, bytes([n])) for n, key in enumerate(keys)]
        )
        self.assertFalse(found.is_more)
        first = await gateway.range(b"r/", b"r0", limit=3, keys_only=True)
        self.assertEqual([(row.key, row.value) for row in first.rows], [(key, b"") for key in keys[:3]])
        self.assertTrue(first.is_more)
        self.server.put(b"r/a", b"new")
        (then,) = (await gateway.range(b"r/a", revision=found.revision)).rows
        (now,) = (await gateway.range(b"r/a")).rows
        self.assertEqual((then.value, now.value, now.revision - found.revision), (b"\2", b"new", 1))
        self.assertEqual((await gateway.range(b"none")).rows, ())
        await gateway.compact(now.revision)
        await gateway.compact(now.revision)
        await self.refused(Compacted, gateway.range(b"r/a", revision=found.revision))

    async def test_transactions(self) -> None:
        """All or nothing, with what was found by the way."""
        gateway = self.gateway(self.server.url)
        new = await gateway.txn(
            [mod_revision_is(b"k", 0)], [putting(b"k", b"1"), putting(b"l", b"")], [reading(b"k")]
        )
        self.assertTrue(new.succeeded)
        again = await gateway.txn(
            [mod_revision_is(b"k", 0)], [putting(b"k", b"2")], [reading(b"k"), reading(b"m")]
        )
        self.assertFalse(again.succeeded)
        (row,) = again.ranges[0].rows
        self.assertEqual((row.key, row.value, row.revision, row.lease), (b"k", b"1", new.revision, 0))
        self.assertEqual(again.ranges[1].rows, ())
        gone = await gateway.txn([mod_revision_is(b"k", new.revision)], [deleting(b"k"), deleting(b"none")])
        self.assertTrue(gone.succeeded)
        self.assertEqual((await gateway.range(b"k")).rows, ())

    async def test_leases(self) -> None:
        """A key goes with its lease; a lease that is gone is told as such."""
        gateway = self.gateway(self.server.url)
        lease = await gateway.grant_lease(60)
        await gateway.txn([], [putting(b"k", b"1", lease=lease)])
        self.assertEqual((await gateway.range(b"k")).rows[0].lease, lease)
        self.assertEqual(await gateway.keep_alive(lease, patience_seconds=60.0), 60)
        await gateway.revoke_lease(lease)
        self.assertEqual(await gateway.keep_alive(lease, patience_seconds=60.0), 0)
        self.assertEqual((await gateway.range(b"k")).rows, ())
        await self.refused(Refused, gateway.revoke_lease(lease))

    async def test_refused(self) -> None:
        """What etcd does not take is refused in its words, and is known not to have happened."""
        gateway = self.gateway(self.server.url)
        refusal = await self.refused(Refused, gateway.txn([], [putting(b"k%d" % n, b"") for n in range(129)]))
        self.assertIn("too many operations", str(refusal))
        refusal = await self.refused(Refused, gateway.txn([], [putting(b"k", bytes(1_700_000))]))
        self.assertIn("too large", str(refusal))
        refusal = await self.refused(Refused, gateway.txn([], [putting(b"k", b"1"), putting(b"k", b"2")]))
        self.assertIn("duplicate key", str(refusal))

    async def test_proxies(self) -> None:
        """The proxies of the environment are not asked."""
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            self.patch(os, "environ", {**os.environ, name: f"http://127.0.0.1:{free_port()}"})
        self.assertEqual((await self.gateway(self.server.url).range(b"k")).rows, ())

    async def test_no_etcd(self) -> None:
        """Somebody else's answers are not taken for etcd's."""
        port = reactor.listenTCP(0, Site(Resource()), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        gateway = self.gateway(f"http://127.0.0.1:{port.getHost().port}")
        fault = await self.refused(Unknown, gateway.range(b"k"))
        self.assertIn("answered 404", str(fault))

    async def test_another_service(self) -> None:
        """Nor are those that are JSON and say that all is well."""
        page = Data(b'{"ok": true}', "application/json")
        page.isLeaf = True
        page.render_POST = page.render_GET  # type: ignore[attr-defined]
        port = reactor.listenTCP(0, Site(page), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        gateway = self.gateway(f"http://127.0.0.1:{port.getHost().port}")
        for asked in (gateway.status(), gateway.txn([], [putting(b"k", b"1")]), gateway.grant_lease(1)):
            fault = await self.refused(Unknown, asked)
            self.assertIn("answered 200: '{\"ok\": true}'", str(fault))

    def test_secrets(self) -> None:
        """Whoever writes down where etcd is writes down no secret."""
        address = Address(endpoints=["http://h"], user="u", password="secret 1", certificate_pem="secret 2")
        self.assertNotIn("secret", repr(address))

    async def test_status(self) -> None:
        """A member says what it is."""
        status = await self.gateway(self.server.url).status()
        self.assertEqual(status.version[:2], (3, 4))
        self.assertGreater(status.size_bytes, 0)
        self.assertGreaterEqual(status.size_bytes, status.used_bytes)
        self.assertEqual(shortage(status), "")


class FaultTests(OnGateways):
    """Connections that go wrong."""

    def setUp(self) -> None:
        """Empty the server, and put a relay before it."""
        self.server = etcd.shared()
        self.server.clear()
        self.proxy = self.relay(self.server)
        self.address = f"http://127.0.0.1:{self.proxy.port}"

    async def test_next_endpoint(self) -> None:
        """One that is not there is passed over, by changes too; when none is there, each call says so."""
        nobody = f"http://127.0.0.1:{free_port()}"
        gateway = self.gateway(nobody, self.server.url)
        self.assertTrue((await gateway.txn([], [putting(b"k", b"1")])).succeeded)
        self.assertEqual(len((await gateway.range(b"k")).rows), 1)
        fault = await self.refused(MetadataUnavailable, self.gateway(nobody).txn([], [putting(b"k", b"2")]))
        self.assertNotIsInstance(fault, Unknown)
        self.assertIn(nobody, str(fault))
        self.assertEqual(self.server.get(b"k"), b"1")

    async def test_cut(self) -> None:
        """A question is asked again elsewhere; a change is not, whether it came through or not."""
        gateway = self.gateway(self.address, self.server.url)
        self.proxy.at(Fault.CUT, Way.TO_SERVER, text=b"/v3/kv/range")
        self.assertEqual((await gateway.range(b"k")).rows, ())
        for number, (way, text, is_there) in enumerate(
            ((Way.TO_SERVER, b"/v3/kv/txn", False), (Way.TO_CLIENT, b"HTTP/1.1 200", True))
        ):
            gateway = self.gateway(self.address, self.server.url)
            cut = self.proxy.at(Fault.CUT, way, text=text)
            await self.refused(Unknown, gateway.txn([], [putting(b"k%d" % number, b"1")]))
            await cut
            self.assertEqual(self.server.get(b"k%d" % number), b"1" if is_there else None)

    async def test_stalled(self) -> None:
        """Who does not answer in time is not waited for, in whatever part of an answer."""
        for way, text in (
            (Way.TO_SERVER, b"/v3/kv"),
            (Way.TO_CLIENT, b"HTTP/1.1"),
            (Way.TO_CLIENT, b'"header"'),
        ):
            gateway = self.gateway(self.address, seconds=SHORT_SECONDS)
            self.proxy.at(Fault.STALL, way, text=text)
            fault = await self.refused(Unknown, gateway.txn([], [reading(b"k")]))
            self.assertIn("has not answered for 0.5 s", str(fault))
            gateway = self.gateway(self.address, self.server.url, seconds=SHORT_SECONDS)
            self.proxy.at(Fault.STALL, way, text=text)
            self.assertEqual((await gateway.range(b"k")).rows, ())

    async def test_lease_and_a_stall(self) -> None:
        """A lease that is renewed does not wait for one endpoint as long as other calls do."""
        gateway = self.gateway(self.address, self.server.url)
        lease = await gateway.grant_lease(60)
        self.proxy.at(Fault.STALL, Way.TO_SERVER, text=b"/v3/lease")
        begun = reactor.seconds()
        self.assertEqual(await gateway.keep_alive(lease, patience_seconds=SHORT_SECONDS), 60)
        self.assertLess(reactor.seconds() - begun, LONG_SECONDS)

    async def test_cancelled(self) -> None:
        """A call whose caller leaves ends at once, in whatever part of an answer, and is not made again elsewhere."""
        for way, text in (
            (Way.TO_SERVER, b"/v3/kv"),
            (Way.TO_CLIENT, b"HTTP/1.1"),
            (Way.TO_CLIENT, b'"header"'),
        ):
            gateway = self.gateway(self.address, self.address)
            stalled = self.proxy.at(Fault.STALL, way, text=text)
            asked = Deferred.fromCoroutine(gateway.range(b"k"))
            await stalled
            accepted = self.proxy.accepted
            asked.cancel()
            await self.assertFailure(asked, CancelledError)
            self.assertEqual(self.proxy.accepted, accepted)

    async def test_half_closed(self) -> None:
        """An answer that ends too early is none."""
        gateway = self.gateway(self.address)
        self.proxy.at(Fault.HALF_CLOSE, Way.TO_CLIENT, text=b'"header"')
        await self.refused(Unknown, gateway.txn([], [putting(b"k", b"1")]))

    async def test_restart(self) -> None:
        """A server that comes back is spoken to again."""
        server = Etcd()
        self.addCleanup(server.remove)
        gateway = self.gateway(server.url)
        await gateway.txn([], [putting(b"k", b"1")])
        server.kill()
        await self.refused(MetadataUnavailable, gateway.range(b"k"))
        server.start()
        self.assertEqual((await gateway.range(b"k")).rows[0].value, b"1")


class WatchTests(OnGateways):
    """What is told of what happened."""

    def setUp(self) -> None:
        """Empty the server, and put a relay before it."""
        self.server = etcd.shared()
        self.server.clear()
        self.proxy = self.relay(self.server)
        self.gate = self.gateway(f"http://127.0.0.1:{self.proxy.port}")

    async def watch(self, revision: int, gateway: Gateway | None = None) -> Watch:
        """Watch ``w/`` from a revision on."""
        watch = await (gateway or self.gate).watch(b"w/", end_of(b"w/"), from_revision=revision)
        self.addCleanup(watch.close)
        return watch

    async def take(self, watch: Watch, count: int) -> list[Event]:
        """Take messages until there are so many events."""
        events: list[Event] = []
        while len(events) < count:
            events += await watch.next()
        return events

    async def test_past_and_present(self) -> None:
        """What happened since comes in order, then what happens: puts and deletions of this range alone."""
        begun = (await self.gate.txn([], [putting(b"w/a", b"0")])).revision
        await self.gate.txn([], [putting(b"w/a", b"1"), putting(b"other", b"1"), putting(b"w/b", b"")])
        await self.gate.txn([], [deleting(b"w/a")])
        watch = await self.watch(begun + 1)
        told = await self.take(watch, 3)
        self.assertEqual(
            [(one.key, one.value, one.revision - begun) for one in told],
            [(b"w/a", b"1", 1), (b"w/b", b"", 1), (b"w/a", None, 2)],
        )
        await self.gate.txn([], [putting(b"w/c", b"now")])
        ((key, value),) = [(one.key, one.value) for one in await watch.next()]
        self.assertEqual((key, value), (b"w/c", b"now"))

    async def test_much(self) -> None:
        """Megabytes that are taken slowly come whole."""
        begun = (await self.gate.range(b"w/")).revision
        for number in range(40):
            await self.gate.txn(
                [], [putting(b"w/%d/%d" % (number, n), bytes([n]) * 20_000) for n in range(10)]
            )
        watch = await self.watch(begun + 1)
        await deferLater(reactor, 0.3)
        told = await self.take(watch, 400)
        self.assertEqual([one.key for one in told], [b"w/%d/%d" % (n // 10, n % 10) for n in range(400)])
        self.assertEqual({len(one.value or b"") for one in told}, {20_000})

    async def test_compacted(self) -> None:
        """What is forgotten cannot be told."""
        for number in range(5):
            last = await self.gate.txn([], [putting(b"w/a", b"%d" % number)])
        await self.gate.compact(last.revision)
        watch = await self.watch(last.revision - 2)
        await self.refused(Compacted, watch.next())

    async def test_silence_and_ends(self) -> None:
        """Nothing in time, a connection that is cut, and one that was closed all end a watch."""
        hasty = self.gateway(self.server.url, seconds=SHORT_SECONDS)
        fault = await self.refused(MetadataUnavailable, (await self.watch(0, hasty)).next())
        self.assertIn("told nothing", str(fault))
        watch = await self.watch(0)
        self.proxy.now(Fault.CUT)
        await self.refused(MetadataUnavailable, watch.next())


class ServerTests(OnGateways):
    """Servers that have users, certificates, little room, or small limits."""

    def server_with(self, *flags: str, **settings: Any) -> Etcd:
        """Start one."""
        server = Etcd(*flags, **settings)
        self.addCleanup(server.remove)
        return server

    async def test_users(self) -> None:
        """We log in, and again when the server has forgotten our token; a wrong password is told, once."""
        server = self.server_with()
        for user, password in (("root", "secret of root"), ("cold", "\u00e4 secret")):
            server.call("auth/user/add", {"name": user, "password": password})
        server.call("auth/role/add", {"name": "cold"})
        every = {
            "key": b64encode(b"/cold/").decode(),
            "range_end": b64encode(b"/cold0").decode(),
            "permType": "READWRITE",
        }
        server.call("auth/role/grant", {"name": "cold", "perm": every})
        server.call("auth/user/grant", {"user": "cold", "role": "cold"})
        server.call("auth/user/grant", {"user": "root", "role": "root"})
        server.call("auth/enable", {})
        gateway = self.gateway(server.url, user="cold", password="\u00e4 secret")
        await gateway.txn([], [putting(b"/cold/k", b"1")])
        # Its tokens are in memory.
        server.restart()
        self.assertEqual(len((await gateway.range(b"/cold/k")).rows), 1)
        self.assertTrue((await gateway.txn([], [putting(b"/cold/k", b"2")])).succeeded)
        watch = await gateway.watch(b"/cold/", b"/cold0", from_revision=1)
        self.addCleanup(watch.close)
        await self.refused(Refused, gateway.txn([], [putting(b"/other", b"1")]))
        wrong = self.gateway(server.url, user="cold", password="wrong")
        fault = await self.refused(Refused, wrong.range(b"/cold/k"))
        self.assertIn("authentication failed", str(fault))
        self.assertNotIn("wrong", str(fault))
        await self.refused(MetadataUnavailable, self.gateway(server.url).range(b"/cold/k"))
        # Rights below its prefix are all that a store needs.
        store = EtcdStore(
            Address(endpoints=[server.url], user="cold", password="\u00e4 secret"),
            prefix="/cold/store",
            replica_path=self.mktemp(),
            reactor=reactor,
        )
        with capturedLogs() as logs:
            await store.open()
            await store.take_epoch(at=1.0, host="")
            await store._executor._open._upkeep.one_round()  # type: ignore[attr-defined]
            await store._executor._open._upkeep.one_round()  # type: ignore[attr-defined]
            await store._executor._open._upkeep.one_round()  # type: ignore[attr-defined]
            await store.close()
        self.assertEqual(
            [entry["log_format"] for entry in logs if entry.get("log_namespace", "").startswith("coldstore")],
            [],
        )

    async def test_certificates(self) -> None:
        """Both ends show who they are; whoever cannot, or is not trusted, is refused."""
        folder = Path(tempfile.mkdtemp(prefix="cs-tls-"))
        folder.chmod(0o755)
        self.addCleanup(lambda: [*(path.unlink() for path in folder.iterdir()), folder.rmdir()])
        pems = {}
        for name in ("server", "client"):
            pems[name] = certificate, key = self_signed("localhost")
            for kind, pem in (("certificate", certificate), ("key", key)):
                (folder / f"{name}-{kind}").write_bytes(pem)
                (folder / f"{name}-{kind}").chmod(0o644)
        (folder / "trusted").write_bytes(pems["server"][0] + pems["client"][0])
        (folder / "trusted").chmod(0o644)
        server = self.server_with(
            tls=Tls(
                certificate=folder / "server-certificate",
                key=folder / "server-key",
                client_certificate=folder / "client-certificate",
                client_key=folder / "client-key",
                trusted=folder / "trusted",
            )
        )
        trusted = pems["server"][0].decode()
        own = b"".join(pems["client"]).decode()
        gateway = self.gateway(server.url, ca_pem=trusted, certificate_pem=own)
        self.assertTrue((await gateway.txn([], [putting(b"k", b"1")])).succeeded)
        for settings in (
            {"ca_pem": trusted},
            {"certificate_pem": own},
            {"ca_pem": pems["client"][0].decode(), "certificate_pem": own},
        ):
            await self.refused(MetadataUnavailable, self.gateway(server.url, **settings).range(b"k"))
        self.assertRaises(MetadataUnavailable, self.gateway, server.url, ca_pem="-----BEGIN nonsense")
        self.assertRaises(MetadataUnavailable, self.gateway, server.url, certificate_pem="nonsense")

    async def test_full(self) -> None:
        """A quota that is reached is told as such, and changes nothing; etcd has an alarm then."""
        server = self.server_with(quota_bytes=1 << 20)
        gateway = self.gateway(server.url)
        number = 0
        while True:
            try:
                await gateway.txn([], [putting(b"k%d" % number, bytes(64 << 10))])
            except MetadataFull as refusal:
                self.assertIn("--quota-backend-bytes", str(refusal))
                break
            number += 1
            self.assertLess(number, 100)
        await self.refused(MetadataFull, gateway.txn([], [putting(b"new", b"1")]))
        self.assertEqual((await gateway.range(b"new")).rows, ())
        status = await gateway.status()
        self.assertIn("NOSPACE", shortage(status))

    async def test_limits(self) -> None:
        """A server that takes too little is found out before anything depends on it, and nothing is changed by asking."""
        keys = Keys("/coldstore")
        good = self.server_with()
        before = (await self.gateway(good.url).range(b"k")).revision
        await check_server(self.gateway(good.url), keys)
        self.assertEqual((await self.gateway(good.url).range(b"\0", b"\0")).rows, ())
        self.assertEqual((await self.gateway(good.url).range(b"k")).revision, before)
        for flag in ("--max-txn-ops=100", "--max-request-bytes=1000000"):
            server = self.server_with(flag)
            fault = await self.refused(MetadataUnavailable, check_server(self.gateway(server.url), keys))
            self.assertIn(flag.partition("=")[0], str(fault))
