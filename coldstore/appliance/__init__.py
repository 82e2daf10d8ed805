"""
The composition root: the only part that names implementations and wires them together.

``service`` is the Twisted service: it lets people in. ``core`` is the appliance without the world around it, wired to what ``adapters`` asks
of that; ``machine`` gives it on a real machine, with ``library`` for the tape side (the tests' simulation gives it otherwise). ``policies`` turns
settings into what planners take, ``control`` is what operators reach, ``clocks`` and ``collecting`` treat the process, ``logs`` is the log.
Imports everything but testing; only ``tap`` imports it.
"""
