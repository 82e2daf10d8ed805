"""What must not be of an answer, whatever was asked."""

import re
from collections.abc import Iterator
from xml.etree import ElementTree

from coldstore.s3.errors import CODES
from tests.endtoend.appliance import TRACES
from tests.fuzzing.case import Case
from tests.fuzzing.client import Answer, Exchange

SHOWN = 300
_BEGINNING = re.compile(r"^\d{4}-\d\d-\d\dT", re.MULTILINE)
"""Of a line of the log that is an event of its own."""


def complaints(seen: Exchange) -> list[str]:
    """Return what is wrong with what came of a case; nothing for what is well."""
    found = [complaint for answer in seen.answers for complaint in _of_answer(answer)]
    if seen.is_late:
        found.append(f"neither answered nor closed within {seen.seconds:.1f} s")
    if seen.rest:
        found.append(f"bytes that are no answer: {seen.rest[:SHOWN]!r}")
    return found


def are_refusals(seen: Exchange, case: Case) -> bool:
    """Whether it is certain that nothing was done: everything that was asked has been answered, with errors."""
    is_all = len(seen.answers) >= len(case.asked)
    return is_all and all(answer.status >= 400 for answer in seen.answers)


def parted(log: str) -> tuple[str, str]:
    """Return a piece of a log up to its latest event, and that event with all that follows."""
    begins = [found.start() for found in _BEGINNING.finditer(log)]
    at = begins[-1] if begins else 0
    return log[:at], log[at:]


def traces(log: str) -> Iterator[str]:
    """Return each piece of a log that no log should hold, a traceback from the line before it to its exception."""
    lines = log.splitlines()
    at = 0
    while at < len(lines):
        begin, at = at, at + 1
        if not any(trace in lines[begin] for trace in TRACES):
            continue
        is_traceback = any("Traceback" in line for line in lines[begin : begin + 2])
        # Of several that were raised one in the handling of another, this is the first; the last ends the piece.
        while is_traceback and at < len(lines) and not _BEGINNING.match(lines[at]):
            at += 1
        yield "\n".join(line for line in lines[begin:at] if line.strip())


def _of_answer(answer: Answer) -> Iterator[str]:
    if not answer.is_whole:
        yield f"{answer.status}: the body is shorter than its length {answer.headers.get('content-length')}"
        return
    if "x-amz-request-id" not in answer.headers:
        yield f"{answer.status}: no request id"
    if answer.status >= 400 and answer.body:
        yield from _of_error(answer)
    elif answer.status >= 500 and answer.status not in (501, 503):
        yield f"status {answer.status}"
    elif answer.body.startswith(b"<?xml") and b"<Error>" in answer.body and b"InternalError" in answer.body:
        yield f"{answer.status}: {answer.body[:SHOWN]!r}"


def _of_error(answer: Answer) -> Iterator[str]:
    shown = f"{answer.status}: {answer.body[:SHOWN]!r}"
    try:
        root = ElementTree.fromstring(answer.body)
    except ElementTree.ParseError as error:
        yield f"an error that is not well-formed ({error}): {shown}"
        return
    code = root.findtext("Code") or ""
    if root.tag != "Error" or code not in CODES or not root.findtext("Message"):
        yield f"an error that is none of S3's: {shown}"
    elif CODES[code][0] != answer.status:
        yield f"a status that does not fit its code: {shown}"
    elif answer.status == 500:
        yield shown
    if root.findtext("RequestId") != answer.headers.get("x-amz-request-id"):
        yield f"a request id that is not its own: {shown}"
