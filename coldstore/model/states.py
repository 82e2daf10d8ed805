"""The one way a state moves: a table of (state, event) to state, and loud refusal of everything else."""

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

S = TypeVar("S", bound=StrEnum)
E = TypeVar("E", bound=StrEnum)


class ImpossibleTransition(Exception):
    """An event met a state in which it cannot happen: our own reasoning is wrong, or two owners act at once."""

    def __init__(self, state: StrEnum, event: StrEnum) -> None:
        super().__init__(f"{type(state).__name__} {state.value} knows no event {event.value}")
        self.state = state
        self.event = event


def after(table: Mapping[tuple[S, E], S], state: S, event: E) -> S:
    """
    Return the state that follows ``state`` upon ``event``.

    :raise ImpossibleTransition: when the table has no such row
    """
    try:
        return table[state, event]
    except KeyError:
        raise ImpossibleTransition(state, event) from None
