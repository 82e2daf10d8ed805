"""A second appliance that stands by for the lock of its PostgreSQL database."""

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from coldstore.util.thishost import host_name
from tests.endtoend.appliance import TRACES, Appliance, wait_until
from tests.endtoend.test_standby import Successor
from tests.servers.postgres import OWNER, Cluster


class PostgresStandbyTests(SynchronousTestCase):
    """The state directory's lock is lost; the database's is not."""

    def test_takes_over(self) -> None:
        """It waits until the first one has learned that its lock is lost and has ended, and serves what that had acknowledged."""
        cluster = Cluster()
        self.addCleanup(cluster.stop)
        where = cluster.database()
        server = {"host": where.host, "port": where.port, "database": where.database, "user": OWNER}
        metadata = {"backend": "postgresql", "postgresql": {**server, "connect_timeout": "1s"}}
        first = Appliance({"metadata": metadata})
        self.addCleanup(first.close)
        first.start()
        assert first.process is not None
        s3 = first.s3()
        s3.create_bucket(Bucket="bucket")
        body = Random(1).randbytes(1 << 20)
        s3.put_object(Bucket="bucket", Key="k", Body=body)
        # What losing the lock of a file system that machines share comes to.
        (first.state / "lock").unlink()
        second = Successor(first, {"metadata": {**metadata, "standby": True}})
        self.addCleanup(second.close)
        second.launch()
        self.assertEqual(first.process.wait(60), 1)
        (line,) = [line for line in first.log().splitlines() if "taken over" in line]
        self.assertIn(f"process {second.process.pid} on {host_name()}", line)  # type: ignore[union-attr]
        second.wait_until_serving()
        self.assertEqual(second.s3().get_object(Bucket="bucket", Key="k")["Body"].read(), body)
        wait_until("the library is reconciled", lambda: second.ask("/status")["is_library_reconciled"])
        for appliance in (first, second):
            for trace in TRACES:
                self.assertNotIn(trace, appliance.log())
        stranger = Appliance({"metadata": {**metadata, "standby": True}})
        self.addCleanup(stranger.close)
        stranger.launch()
        wait_until(
            "it stands by for the database",
            lambda: f"process {second.process.pid} on {host_name()}, process" in stranger.log(),  # type: ignore[union-attr]
        )
        second.close()
        assert stranger.process is not None
        self.assertEqual(stranger.process.wait(60), 1)
        self.assertIn("is new, and the metadata in postgresql are not", stranger.log())
