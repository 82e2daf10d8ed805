"""What an operator's request says, and refusals of it."""

import json
from collections.abc import Mapping
from typing import Any

from twisted.web.http import Request

BODY_MAX_BYTES = 1_000_000
NAME_MAX = 128


class BadRequest(Exception):
    """The operator's request names something that cannot be; says what."""


class NotNow(Exception):
    """The operator's order does not fit the present state; says why."""


def argument_of(request: Request, name: str, default: str = "") -> str:
    """Return an argument of the query."""
    values = (request.args or {}).get(name.encode())
    return values[0].decode("utf-8", "replace") if values else default


def number_of(request: Request, name: str, default: int, *, most: int) -> int:
    """
    Return an argument that is a number.

    :raise BadRequest: it is none
    """
    text = argument_of(request, name, str(default))
    if not text.isascii() or not text.isdigit():
        raise BadRequest(f"{name} is not a number: {text!r}")
    return min(int(text), most)


def document_of(request: Request) -> Mapping[str, Any]:
    """
    Return the body.

    :raise BadRequest: it is no JSON object, or too large
    """
    assert request.content is not None
    raw = request.content.read(BODY_MAX_BYTES + 1)
    try:
        document = json.loads(raw or b"{}")
    except ValueError as error:
        raise BadRequest(f"the body is not JSON: {error}") from error
    if len(raw) > BODY_MAX_BYTES or not isinstance(document, dict):
        raise BadRequest("the body is not a JSON object of at most 1 MB")
    return document


def text_of(document: Mapping[str, Any], name: str, default: str | None = None) -> str:
    """
    Return a field.

    :raise BadRequest: it is missing and has no default, or is no text, or too long
    """
    value = document.get(name, default)
    if not isinstance(value, str) or len(value) > NAME_MAX:
        raise BadRequest(f"{name} must be text of at most {NAME_MAX} characters")
    return value
