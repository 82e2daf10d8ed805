"""
The embedded metadata store: one SQLite file, for a first run and for a single box.

What is done with the rows is in ``metadata.sql``; here is how SQLite does it. ``store.SqliteStore`` is the way in. ``driver`` answers
what a step asks, ``executors`` run steps (threads, or at once for tests), ``groupcommit`` puts many into one transaction,
``connection`` opens the file, ``schema`` migrates it.

Decisions:

- One writer. What queued up during the last commit is the next transaction; a failing step is undone alone (in a savepoint), and
  one fsync serves many. Two reader threads with connections of their own: WAL lets them read on beside the writer, and what a
  fired Deferred promised is committed, hence seen.
- No statement waits for anything but the disk, so a step runs from its beginning to its end in one go (``driver.finished``).
"""
