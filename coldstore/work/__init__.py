"""
The loops that act: each looks at the metadata and the world, asks a planner, and carries its answer out.

- ``packer`` freezes bundles; ``queues`` say what waits; ``dispatcher`` gives drives their work; a ``bay`` is one drive with what is in it;
  ``writing`` and ``reading`` are what a bay does with a mounted cartridge; ``inventory`` keeps records and library equal.
- ``restorer`` completes restores whose bytes never left the disk; ``expirer`` ends promises; ``evictor`` frees the disk;
  ``janitor`` settles archived bundles and frees what nothing needs; ``sweeper`` finds orphans on disk.
- ``deliverer`` empties the outbox. ``recovery`` undoes or takes up what an earlier run left.

Imports model, plan, ontape, interfaces and util; never an adapter, never s3 or admin. Loops talk through the metadata store and bells.
"""
