"""
What is done to the metadata as a whole, beside the appliance: ``coldstore db``.

``command`` is its command line and loads nothing else before one of its commands is given; ``running`` carries one out. ``places``
knows stores by the names that an operator gives them, ``holding`` sees to it that nobody else writes one meanwhile; ``status``,
``upgrading``, ``backup`` and ``moving`` are the commands; ``progress`` shows how far they are. ``dumps`` is the folder of dumps, and
``dump_child`` the process that an appliance has make one.

It works on the configuration file, not through the appliance's socket: most of it is for when no appliance runs.
"""
