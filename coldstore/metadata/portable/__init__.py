"""
The metadata as rows: what is written into a dump, read back from one, and moved from one database to another.

``stores`` says what a database has to offer for that: reading all rows in one snapshot (``Snapshot``), taking rows in, and two
marks (``Portable``). ``transfer`` brings rows into a store and proves that all came; whether they come out of another store or
out of a dump makes no difference to it. ``dumping`` writes a dump, ``dumped`` reads one, ``lines`` and ``packing`` are its format
(``FORMAT.md``).

Decisions:

- Rows go table by table in an order that foreign keys allow, and by their keys within a table, each batch in a transaction. So
  what has arrived is always a beginning of the whole, and its last row says how far: breaking off at any point costs nothing.
- There is never more than one store that an appliance opens. A store that something arrives in is marked before the first row and
  until the last one was compared; one that was moved away is marked before the mark of the other is taken off.
- Everything here is a coroutine. Those of an embedded database never wait (``sqlite.driver.finished``), so that a dump needs no
  reactor and can be made in a process of its own.
"""
