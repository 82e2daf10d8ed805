"""Where a server listens."""

from twisted.trial.unittest import SynchronousTestCase

from coldstore.util.listening import Listener, TlsFiles, listener_of


class ListenerTests(SynchronousTestCase):
    """``listener_of``."""

    def test_plain(self) -> None:
        """A port, with an address or without, by name or by place; IPv6 has its colons behind backslashes."""
        self.assertEqual(listener_of("tcp:8420"), Listener(interface="", port=8420))
        self.assertEqual(listener_of("tcp:port=0"), Listener(interface="", port=0))
        self.assertEqual(
            listener_of("tcp:8420:interface=127.0.0.1:backlog=7"),
            Listener(interface="127.0.0.1", port=8420, backlog=7),
        )
        self.assertEqual(listener_of("tcp6:8420"), Listener(interface="::", port=8420))
        self.assertEqual(listener_of(r"tcp6:8420:interface=\:\:1"), Listener(interface="::1", port=8420))

    def test_tls(self) -> None:
        """Files are named as Twisted names them; the certificate is in the key's file unless another one is named."""
        self.assertEqual(
            listener_of("ssl:443:privateKey=/k.pem"),
            Listener(interface="", port=443, tls=TlsFiles(certificate_file="/k.pem", key_file="/k.pem")),
        )
        found = listener_of(
            r"ssl:443:interface=10.0.0.5:privateKey=/a\:b/k\=y:certKey=/c.pem:extraCertChain=/d.pem"
        )
        self.assertEqual(found.interface, "10.0.0.5")
        assert found.tls is not None
        self.assertEqual(
            found.tls, TlsFiles(certificate_file="/c.pem", key_file="/a:b/k=y", chain_file="/d.pem")
        )
        self.assertEqual(found.tls.paths, ("/c.pem", "/a:b/k=y", "/d.pem"))

    def test_refused(self) -> None:
        """Everything else is refused, and the refusal quotes it and says what is missing."""
        for text, why in (
            ("", "begin with tcp"),
            ("8420", "begin with tcp"),
            ("unix:/run/s3", "begin with tcp"),
            ("tcp=8420", "begin with tcp"),
            ("tcp", "port"),
            ("tcp:", "port"),
            ("tcp:http", "port"),
            ("tcp:65536", "port"),
            ("tcp:-1", "port"),
            ("tcp:1\u0663", "port"),
            ("tcp:8420:127.0.0.1", "not understood"),
            ("tcp:8420:interfaces=127.0.0.1", "interfaces=127.0.0.1 is not understood"),
            ("tcp:8420:port=8421", "port twice"),
            ("tcp:8420:privateKey=/k", "not understood"),
            ("tcp:8420:backlog=many", "backlog"),
            ("ssl:8420", "needs privateKey=FILE"),
            ("ssl:8420:certKey=/c", "needs privateKey=FILE"),
            ("ssl:8420:privateKey=k.pem", "absolute"),
            ("ssl:8420:privateKey=/k:sslmethod=SSLv3_METHOD", "not understood"),
        ):
            with self.subTest(text), self.assertRaises(ValueError) as caught:
                listener_of(text)
            self.assertIn(why, str(caught.exception))
            self.assertIn(repr(text), str(caught.exception))
