"""
The tape hardware: programs that move cartridges and drive tapes, run as subprocesses.

Imports model, interfaces, ontape and util; never another adapter.

Decisions of this chapter:

- Every command has an argument list, a deadline, ``LC_ALL=C`` and bounded output. A command that outlives its
  deadline is killed with everything it started, reaped, and its outcome is *unknown*: look before repeating.
- Every command that touches a device inherits a descriptor with an flock. After a kill -9 of the appliance an orphaned
  command goes on working on the device, and keeps the lock; whoever starts next waits for it before looking.
- What a program says is read by pure functions over bytes that raise on what they do not know (``mtx``, ``mt``, ...);
  what to do about it is decided by the drivers above them (``library``, ``drive``, ...).
- The exit status is one witness, never the verdict. Moves are followed by a look at the inventory when anything but
  success is reported, since a failed move may have happened.
"""
