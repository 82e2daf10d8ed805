"""
Which tests prove what about which incident (``coldstore.vtl.incidents``).

``@shows`` marks a test that sees the virtual library's programs behave as a row says, ``@survives`` one that sees the product survive it: the right exit
or verdict, nothing lost, one sentence for the operator. ``tests.unit.test_incidents`` demands one of each for every row, so a row without a test is a failure.
"""

from collections.abc import Callable
from typing import TypeVar

Test = TypeVar("Test", bound=Callable[..., object])


def shows(*names: str) -> Callable[[Test], Test]:
    """Mark a test: the programs do what these incidents say."""
    return _marking("shows", names)


def survives(*names: str) -> Callable[[Test], Test]:
    """Mark a test: the product survives these incidents."""
    return _marking("survives", names)


def _marking(mark: str, names: tuple[str, ...]) -> Callable[[Test], Test]:
    def marked(test: Test) -> Test:
        setattr(test, mark, names)
        return test

    return marked
