"""The garbage collector of a process that runs for months and makes thousands of objects for each page of a listing."""

import gc

YOUNG_OBJECTS = 10_000
"""How many objects may come to be, over those that went, before the young are looked through: a request makes some fifty."""


def spare_what_stays() -> None:
    """
    Have the collector pass over everything that is there now, which is modules mostly, and look at the rest less often.

    Nearly all garbage of a request goes without it. What it finds is of the last seconds, however large the rest has grown.
    """
    gc.collect()
    gc.freeze()
    _, *older = gc.get_threshold()
    gc.set_threshold(YOUNG_OBJECTS, *older)
