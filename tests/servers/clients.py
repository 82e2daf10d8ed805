"""Clients of an appliance whose servers are killed."""

import threading

from botocore.exceptions import BotoCoreError, ClientError

from tests.endtoend.appliance import Appliance

CLIENTS = 4


class Client(threading.Thread):
    """
    Puts small objects, one after the other, until it is told to stop.

    :ivar told: keys and bodies of what was acknowledged
    :ivar statuses: what else was answered
    """

    def __init__(self, appliance: Appliance, bucket: str, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._s3 = appliance.s3()
        self._bucket = bucket
        self._is_stopping = threading.Event()
        self.told: dict[str, bytes] = {}
        self.statuses: set[int] = set()
        self.trouble: Exception | None = None

    def run(self) -> None:
        """Put."""
        number = 0
        while not self._is_stopping.is_set():
            number += 1
            key = f"{self.name}-{number:05}"
            body = key.encode() * 50
            try:
                self._s3.put_object(Bucket=self._bucket, Key=key, Body=body)
                self.told[key] = body
            except ClientError as error:
                self.statuses.add(int(error.response["ResponseMetadata"]["HTTPStatusCode"]))
                self._is_stopping.wait(0.05)
            except BotoCoreError as error:
                self.trouble = error
                return

    def stop(self) -> None:
        """End it, and wait for that."""
        self._is_stopping.set()
        self.join(60)
