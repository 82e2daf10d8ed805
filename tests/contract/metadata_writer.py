"""A process that publishes versions as fast as it can and says which were acknowledged, until it is killed."""

import contextlib
import sys
from typing import cast

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorCore, IReactorFromThreads

from coldstore.metadata.sqlite.store import SqliteStore
from coldstore.model.errors import BucketAlreadyOwned
from tests.contract.metadata_contract import facts_of, piece_of

LANES = 16
reactor = cast(IReactorFromThreads, installed_reactor)


async def publish_for_ever(path: str, run: str) -> None:
    """Keep some steps under way; write the key of each to stdout once its Deferred fired."""
    store = SqliteStore(path, reactor=reactor)
    await store.open()
    with contextlib.suppress(BucketAlreadyOwned):
        await store.create_bucket(name="b", owner_id="o", region="r", created_at=1.0, default_class=None)

    async def lane(number: int) -> None:
        count = 0
        while True:
            name = f"{run}-{number}-{count}"
            count += 1
            await store.publish_version(
                facts_of(name.encode()),
                layout_id=f"layout {name}",
                pieces=[piece_of(f"piece {name}")],
                wants_tape=True,
                condition=None,
                messages=(),
            )
            sys.stdout.write(f"{name}\n")
            sys.stdout.flush()

    for number in range(LANES):
        Deferred.fromCoroutine(lane(number))


if __name__ == "__main__":
    core = IReactorCore(installed_reactor)
    core.callWhenRunning(lambda: Deferred.fromCoroutine(publish_for_ever(sys.argv[1], sys.argv[2])))
    core.run()
