"""
What every metadata store in a database of SQL has in common: all that is done with the rows.

``store.SqlStore`` is the way in; it turns every method of the interface into a step and gives it to an ``executor``, which runs it
in a transaction. A step is a coroutine of a ``Database`` (``database``), so it reads like plain code and runs on SQLite in one go as
well as on a server across a network; one module per family. ``footprints`` says which may run
side by side; ``stepqueue`` holds those that wait for the one writer. ``bounds`` holds steps to the interface's limits, ``rows`` turns rows
into the model and back, ``runs`` and ``kept`` save rows and questions.

Decisions:

- A step asks first, then writes, and asks as few times as it can: a database may be far away.
- Nobody deletes pieces at once. A version that goes is only marked; ``discards`` takes it and its layout apart in bounded
  batches. So deleting 40 objects of 10,000 parts touches 40 rows.
- A piece's address is in ``pieces`` or in ``discards``, never in both: as long as its bytes may exist somebody knows them.
- What is under a key and all that is not (superseded versions, delete markers) are in indexes apart (``standing``): where nothing is
  versioned the second ones are empty, and nobody pays for them.
- What is immutable stays in its row for good, tags that a writer gave included: bundles are made of it, at any time, to the byte the same.
  Tags of later are a column beside it (``tags``). What is long and seldom asked for, the digests of parts, has a table of its own
  (``digests``): a row is read and written whole with every change of it.
- Sums that an operator watches (``backlogs``) are kept in the step that changes them; a recount would grow with the store.
- CRCs are unsigned 64-bit numbers and the integers of databases are signed: ``rows`` wraps them both ways.
"""
