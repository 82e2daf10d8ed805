"""The factory of S3 connections: how many there may be."""

from random import Random

from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource

from coldstore.s3.ids import IdSource
from coldstore.s3.site import S3Site

ADDRESS = IPv4Address("TCP", "127.0.0.1", 40_000)


class ConnectionsTests(SynchronousTestCase):
    """``connections_max``."""

    def test_bound(self) -> None:
        """Connections beyond the bound are refused; one that ends makes room."""
        site = S3Site(Resource(), reactor=Clock(), ids=IdSource(Random(1)), connections_max=2)
        channels = [site.buildProtocol(ADDRESS) for _ in range(2)]
        for channel in channels:
            channel.makeConnection(StringTransport())
        self.assertIsNone(site.buildProtocol(ADDRESS))
        channels[0].connectionLost()
        self.assertIsNotNone(site.buildProtocol(ADDRESS))
