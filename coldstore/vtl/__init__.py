"""
The virtual library: ``mtx``, ``mt``, ``ltfs``, ``mkltfs``, ``ltfsck`` and ``umount`` as programs over a directory of cartridges.

A first run, a demonstration and the tests of failures need no hardware: :func:`coldstore.vtl.library.create_library` (or
``coldstore-vtl create DIR``) makes a directory with device files, cartridges and a ``bin`` folder. Whoever drives those programs
as subprocesses meets the command lines, output texts, exit statuses and failure manners of mtx 1.3.12, mt-st 1.7 and the LTFS
reference implementation 2.4.8.4, odd ones included (``ltfs`` exits 0 after a failed index write, ``ltfsck`` exits 1 for success).

Imports the standard library, ``coldstore.util`` and, in :mod:`coldstore.vtl.fusefs` alone, ``mfusepy``. Each ``mtx status`` is a new
Python process, so modules import little. These are stand-alone programs: they use the clock, processes and files directly.

Decisions:

- All that the robot and the drives know is one file, ``library.json``, changed under one lock by write, fsync and rename. What takes
  model time is recorded as "until": a killed ``mtx`` stops waiting, the robot goes on (:mod:`coldstore.vtl.library`).
- A device node is a plain file. ``nst`` is single opener: a lease tells whether anybody else has it open. ``sg`` is exclusive: a lock
  file (:mod:`coldstore.vtl.devices`).
- A cartridge is two partition files addressed in blocks, with the indexes written on them, and a file for the cartridge memory
  (:mod:`coldstore.vtl.medium`). The tree of files lives in the memory of ``ltfs`` alone until an index is written, so what a kill
  loses is lost here too (:mod:`coldstore.vtl.volume`).
- Faults are rows of one table (:mod:`coldstore.vtl.faults`), armed by files in ``faults/``.
- Without FUSE, ``ltfs`` serves a plain directory and says so (:mod:`coldstore.vtl.plain`).
"""
