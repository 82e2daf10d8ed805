"""That nothing of what was erased is left in a file's log."""

from functools import partial

from twisted.logger import Logger

from coldstore.metadata.sqlite.connection import IN_MEMORY, empty_log
from coldstore.util.workers import Reactor, Workers

log = Logger()


async def erase_log(path: str, reactor: "Reactor | None") -> None:
    """
    Cut the log of a file off.

    :param reactor: None: here and now, blocking
    :raise MetadataUnavailable: the file does not answer
    """
    if path == IN_MEMORY:
        return
    if reactor is None:
        is_empty = empty_log(path)
    else:
        workers = Workers(reactor, 1, "metadata-log")
        try:
            is_empty = await workers.run(partial(empty_log, path))
        finally:
            await workers.stop()
    if not is_empty:
        log.warn(
            "{path}-wal is being read and could not be emptied: until the next stop it may hold secrets in the clear",
            path=path,
        )
