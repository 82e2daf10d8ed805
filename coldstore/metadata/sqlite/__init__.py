"""
The embedded metadata store: one SQLite file, for a first run and for a single box.

``store.SqliteStore`` is the way in; it turns every interface method into a step and gives it to an executor.
``executors`` runs steps (threads, or at once for tests), ``groupcommit`` puts many into one transaction, ``bounds`` holds
them to the interface's limits, ``connection`` opens the file, ``schema`` migrates it. The rest are the steps, plain
functions of a connection, one module per family; ``rows`` turns rows into the model and back.

Decisions:

- One writer thread. What queued up during the last commit is the next transaction, a savepoint per step: a failing step
  harms no other, and one fsync serves many. Two reader threads with connections of their own: WAL lets them read on
  beside the writer, and what a fired Deferred promised is committed, hence seen.
- Nobody deletes pieces at once. A version that goes is only marked; ``discards`` takes it and its layout apart in bounded
  batches. So deleting 40 objects of 10,000 parts touches 40 rows.
- A piece's address is in ``pieces`` or in ``discards``, never in both: as long as its bytes may exist somebody knows them.
- Sums that an operator watches (``backlogs``) are kept in the step that changes them; a recount would grow with the store.
- CRCs are unsigned 64-bit numbers and SQLite's integers are signed: ``rows`` wraps them both ways.
"""
