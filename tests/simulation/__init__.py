"""
The real appliance in a simulated world: one seed, one virtual clock, no threads, no real disk, tape or network.

``reactor`` is time, ``life`` what ends with a killed process, ``chance`` what decides; ``disk``, ``database`` and ``library`` are what
survives and what can go wrong with it; ``machine`` gives all that to the composition root as its adapters. ``clients`` put and get through
the real HTTP parser and keep a ledger, ``world`` runs the story, ``invariants`` judges it.

What stands for something real keeps what the real one promises: ``tests/contract`` holds the disk, the staging on it, the record, the
threads, robot, drives and tapes to the very suites of the real ones, and says what only they can show, such as a power cut.

``tests/simulate`` is for people: ``case`` is what can be played, ``players`` play many, ``summary`` adds up; ``narrator`` with ``witness`` and
``history`` tells what happens, ``picture`` draws it; ``shrink`` makes a bad case small, for ``regressions.txt``. ``trace`` shows that equal worlds
are equal.
"""
