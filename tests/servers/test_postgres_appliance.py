"""A real appliance whose metadata are in a real PostgreSQL, and both of them killed."""

from typing import ClassVar

from tests.endtoend.appliance import Appliance, ApplianceCase, wait_until
from tests.servers.clients import CLIENTS, Client
from tests.servers.postgres import OWNER, Cluster


class PostgresApplianceTests(ApplianceCase):
    """Nothing acknowledged is lost, and all goes on by itself."""

    cluster: ClassVar[Cluster]

    @classmethod
    def make_appliance(cls) -> Appliance:
        """One whose metadata are in a server that keeps what it commits."""
        cls.cluster = Cluster(is_durable=True)
        where = cls.cluster.database()
        server = {"host": where.host, "port": where.port, "database": where.database, "user": OWNER}
        return Appliance(
            {"metadata": {"backend": "postgresql", "postgresql": {**server, "connect_timeout": "1s"}}}
        )

    def test_life(self) -> None:
        """An object is put, read, brought to tape and found again by the next process after kill -9; a second one may not start."""
        bucket = self.bucket()
        self.s3.put_object(Bucket=bucket, Key="warm", Body=b"warm" * 1000)
        self.s3.put_object(Bucket=bucket, Key="cold", Body=b"cold" * 1000, StorageClass="GLACIER")
        self.assertEqual(self.s3.get_object(Bucket=bucket, Key="warm")["Body"].read(), b"warm" * 1000)
        self.appliance.archive((bucket, "cold"))
        second = Appliance({"metadata": self.appliance.settings["metadata"]})
        try:
            with self.assertRaisesRegex(AssertionError, "is in use by another appliance"):
                second.start()
        finally:
            second.close()
        self.appliance.kill()
        self.appliance.start()
        self.assertEqual(self.s3.get_object(Bucket=bucket, Key="warm")["Body"].read(), b"warm" * 1000)
        self.s3.restore_object(Bucket=bucket, Key="cold", RestoreRequest={"Days": 1})
        wait_until(
            "the object is restored",
            lambda: (
                'ongoing-request="false"' in self.s3.head_object(Bucket=bucket, Key="cold").get("Restore", "")
            ),
            seconds=60,
        )
        self.assertEqual(self.s3.get_object(Bucket=bucket, Key="cold")["Body"].read(), b"cold" * 1000)
        self.assertFalse((self.appliance.state / "metadata.sqlite").exists())

    def test_server_killed(self) -> None:
        """The server is killed under a load: whoever was answered 200 finds his object; others are told 503 until it is back."""
        bucket = self.bucket()
        clients = [Client(self.appliance, bucket, f"client{number}") for number in range(CLIENTS)]
        for client in clients:
            client.start()
        try:
            for _ in range(2):
                self.until_all_put(clients)
                self.cluster.kill()
                for client in clients:
                    client.statuses.clear()
                wait_until("every client is refused", lambda: all(client.statuses for client in clients))
                self.cluster.start()
                self.until_all_put(clients)
        finally:
            for client in clients:
                client.stop()
        for client in clients:
            self.assertEqual((client.trouble, client.statuses), (None, {503}))
        told = {key: body for client in clients for key, body in client.told.items()}
        listed: set[str] = set()
        for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            listed |= {entry["Key"] for entry in page["Contents"]}
        self.assertEqual(told.keys() - listed, set())
        for key, body in told.items():
            self.assertEqual(self.s3.get_object(Bucket=bucket, Key=key)["Body"].read(), body, key)

    def until_all_put(self, clients: list[Client]) -> None:
        """Wait until each client has put some more objects."""
        before = [len(client.told) for client in clients]
        wait_until(
            "every client puts objects",
            lambda: all(len(client.told) >= count + 5 for client, count in zip(clients, before, strict=True)),
            seconds=60,
        )
