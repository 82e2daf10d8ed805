"""
The composition root: the only part that names implementations and wires them together.

``service`` is the Twisted service and its start, ``policies`` turns settings into what planners take, ``library`` builds
the tape side, ``logs`` the log. Imports everything but testing; only ``tap`` imports it.
"""
