"""What a command is given to work with."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TextIO

from coldstore.config.schema import Configuration
from coldstore.metadata.portable.stores import Act
from coldstore.metadata.portable.transfer import Stage
from coldstore.upkeep.errors import Refused
from coldstore.upkeep.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """
    One command's surroundings.

    :ivar reactor: for stores behind a network; None while there is none of them
    :ivar questions: where answers of the operator come from; ``remarks`` where questions and remarks go
    :ivar now: gives unix seconds
    :ivar who: gives the command
    """

    settings: Configuration
    reactor: Any
    progress: Progress
    questions: TextIO
    remarks: TextIO
    now: Callable[[], float]
    who: str

    def act(self, what: str, subject: str, detail: str) -> Act:
        """Return what the audit trail says of what was done to a store, ``subject``."""
        return Act(at=self.now(), who=self.who, what=what, subject=subject, detail=detail)

    def say(self, sentence: str) -> None:
        """Tell the operator something, beside the result."""
        self.progress.end()
        print(sentence, file=self.remarks, flush=True)

    def tell(self, stage: Stage, done: int, expected: int) -> None:
        """Show how far a transfer is."""
        self.progress(stage.value, done, expected)

    def demand_consent(self, sentence: str, *, is_given: bool) -> None:
        """
        Ask the operator, unless he has answered before.

        :raise Refused: he does not want it, or there is nobody to ask
        """
        if is_given:
            return
        if not self.questions.isatty():
            raise Refused(f"{sentence} Say --yes if you want that")
        print(f"{sentence} Type yes: ", end="", file=self.remarks, flush=True)
        if self.questions.readline().strip() != "yes":
            raise Refused("nothing was changed")
