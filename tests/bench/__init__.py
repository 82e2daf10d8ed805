"""
Measurements of a real ``twistd coldstore`` process, beside a baseline that is measured in the same run.

Each ``bench_*.py`` is a program: it prints a table, and writes the same figures as JSON. ``tests/run bench`` runs all of
them, ``tests/run bench:small`` one. What a figure is worth:

- A ratio holds on any machine, an absolute figure on this one at this load. Contenders take turns, several rounds, and the
  median counts.
- The processor time that the server process used for a request is far steadier than requests a second, for the client runs on
  the same cores and so may others.
- The clients (``driver``) send bytes that were signed before the clock started, and only look at the length of an answer.
  The server verifies every one of these signatures, as it does those of any client.
"""
