"""
The loops that act: each looks at the metadata and the world, asks a planner, and carries its answer out.

- ``packer`` freezes bundles, ``contents`` has their headers and places ready before a drive wants them; ``queues`` say what
  waits, ``renewing`` which lost copies are made anew; ``dispatcher`` gives drives their work, by what ``stations`` know of
  each, and tells operators by ``notices``; a ``bay`` is one drive with what is in it; ``writing`` and ``reading`` are what a bay does with a mounted cartridge; ``inventory`` keeps records and library equal.
- ``restorer`` completes restores whose bytes never left the disk; ``expirer`` ends promises; ``evictor`` frees the disk,
  ``compactor`` gives back what is dead in it; ``janitor`` settles archived bundles and frees what nothing needs; ``sweeper``
  finds orphans on disk, ``leftovers`` what a full record left in doubt; ``watcher`` tells of disks that are full;
  ``lockclock`` keeps the time by which retentions end.
- ``deliverer`` empties the outbox. ``recovery`` undoes or takes up what an earlier run left.

Imports model, plan, ontape, interfaces and util; never an adapter, never s3 or admin. Loops talk through the metadata store and bells.
"""
