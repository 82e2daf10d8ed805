"""The private etcd itself: what other tests rely on."""

import json
import os
from urllib.error import HTTPError, URLError

from twisted.trial.unittest import SynchronousTestCase

from tests.servers import etcd
from tests.servers.etcd import Etcd
from tests.servers.processes import parent_of


class EtcdTests(SynchronousTestCase):
    """One for all, and one that is mistreated."""

    def test_shared(self) -> None:
        """It is started once, is a 3.4, is not root's, keeps what it is given, and is empty once it was cleared."""
        server = etcd.shared()
        self.assertIs(etcd.shared(), server)
        self.assertNotEqual(os.stat(f"/proc/{server.pid}").st_uid, 0)
        with etcd._direct.open(f"{server.url}/version") as answer:
            self.assertEqual(json.load(answer)["etcdserver"].rpartition(".")[0], "3.4")
        lease = server.call("lease/grant", {"TTL": 600})["ID"]
        for key, value in ((b"a", b"1"), (b"\xff", b"\0"), (b"b", b"")):
            server.put(key, value)
            self.assertEqual(server.get(key), value)
        self.assertIsNone(server.get(b"c"))
        server.clear()
        self.assertEqual([server.get(key) for key in (b"a", b"\xff", b"b")], [None] * 3)
        self.assertNotIn(lease, [row["ID"] for row in server.call("lease/leases", {}).get("leases", [])])

    def test_life(self) -> None:
        """What it was given outlives a stop and kill -9; in between nobody answers."""
        server = Etcd()
        self.addCleanup(server.remove)
        for number, end in enumerate((server.stop, server.kill)):
            server.put(b"key %d" % number, b"value")
            pid = server.pid
            end()
            self.assertIsNone(parent_of(pid))
            self.assertRaises(URLError, server.get, b"key 0")
            server.start()
            self.assertEqual(server.get(b"key %d" % number), b"value")

    def test_full(self) -> None:
        """One with a small quota refuses to write more at last, and says why."""
        server = Etcd(quota_bytes=1 << 20)
        self.addCleanup(server.remove)
        with self.assertRaises(HTTPError) as refused:
            for number in range(100):
                server.put(b"key %d" % number, bytes(64 << 10))
        self.assertIn("database space exceeded", refused.exception.read().decode())
