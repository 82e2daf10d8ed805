"""What is common to reading the output of tape programs."""


class UnknownOutput(ValueError):
    """
    A program said something that its parser does not know.

    Guessing would be worse: the caller reports it and leaves the hardware alone.
    """

    def __init__(self, program: str, what: str) -> None:
        super().__init__(f"{program} said something unknown: {what}")
        self.program = program
        self.what = what


def text_of(output: bytes) -> str:
    """Decode output for people: what is not UTF-8 is replaced, never an error."""
    return output.decode("utf-8", "replace").strip()
