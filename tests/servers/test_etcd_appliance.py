"""A real appliance whose metadata are in a real etcd, and both of them killed."""

from typing import ClassVar

from tests.endtoend.appliance import Appliance, ApplianceCase, wait_until
from tests.servers.clients import CLIENTS, Client
from tests.servers.etcd import Etcd


class EtcdApplianceTests(ApplianceCase):
    """Nothing acknowledged is lost, and all goes on by itself."""

    server: ClassVar[Etcd]

    @classmethod
    def make_appliance(cls) -> Appliance:
        """One whose metadata are in an etcd of its own."""
        cls.server = Etcd()
        return Appliance(
            {
                "metadata": {
                    "backend": "etcd",
                    "etcd": {"endpoints": [cls.server.url], "prefix": "/cold/one", "request_timeout": "2s"},
                }
            }
        )

    def test_life(self) -> None:
        """
        What was put and brought to tape is found by the next process after kill -9, and by one whose replica is gone, and comes back
        from tape.
        """
        bucket = self.bucket()
        bodies = {f"warm/{number}": f"warm {number}".encode() * 1000 for number in range(20)}
        for key, body in bodies.items():
            self.s3.put_object(Bucket=bucket, Key=key, Body=body)
        self.s3.put_object(Bucket=bucket, Key="cold", Body=b"cold" * 1000, StorageClass="GLACIER")
        self.appliance.archive((bucket, "cold"))
        replica = self.appliance.state / "metadata-etcd.sqlite"
        self.assertTrue(replica.exists())
        self.appliance.kill()
        self.appliance.start()
        self.check(bucket, bodies)
        self.s3.delete_object(Bucket=bucket, Key="warm/0")
        del bodies["warm/0"]
        self.appliance.stop()
        replica.unlink()
        self.appliance.start()
        self.check(bucket, bodies)
        self.s3.restore_object(Bucket=bucket, Key="cold", RestoreRequest={"Days": 1})
        wait_until(
            "the object is restored",
            lambda: (
                'ongoing-request="false"' in self.s3.head_object(Bucket=bucket, Key="cold").get("Restore", "")
            ),
            seconds=60,
        )
        self.assertEqual(self.s3.get_object(Bucket=bucket, Key="cold")["Body"].read(), b"cold" * 1000)

    def check(self, bucket: str, bodies: dict[str, bytes]) -> None:
        """Exactly these objects, and ``cold``, are there."""
        listed = [entry["Key"] for entry in self.s3.list_objects_v2(Bucket=bucket)["Contents"]]
        self.assertEqual(listed, sorted([*bodies, "cold"]))
        for key, body in bodies.items():
            self.assertEqual(self.s3.get_object(Bucket=bucket, Key=key)["Body"].read(), body)

    def test_both_killed(self) -> None:
        """etcd, then the appliance, are killed under a load: whoever was answered 200 finds his object."""
        bucket = self.bucket()
        told: dict[str, bytes] = {}
        for number, kill in enumerate((self.server.kill, self.appliance.kill)):
            clients = [Client(self.appliance, bucket, f"client{number}{n}") for n in range(CLIENTS)]
            for client in clients:
                client.start()
            wait_until("every client puts objects", lambda: all(len(client.told) > 10 for client in clients))  # noqa: B023
            kill()
            if kill == self.server.kill:
                self.server.start()
                before = [len(client.told) for client in clients]
                wait_until(
                    "every client puts objects again",
                    lambda: all(len(one.told) > count for one, count in zip(clients, before, strict=True)),  # noqa: B023
                    seconds=60,
                )
            for client in clients:
                client.stop()
                told.update(client.told)
        self.appliance.start()
        listed: set[str] = set()
        for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            listed |= {entry["Key"] for entry in page["Contents"]}
        self.assertEqual(told.keys() - listed, set())
        for key, body in told.items():
            self.assertEqual(self.s3.get_object(Bucket=bucket, Key=key)["Body"].read(), body, key)
