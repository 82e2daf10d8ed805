"""
What pages of other origins may do, and what their browsers are told. Pure.

A browser asks before it sends what a form could not (a *preflight*, an OPTIONS request without a signature), and shows a page
nothing of an answer that does not name the page's origin. Source: WHATWG Fetch Standard, "CORS protocol"; S3 User Guide, "How
does Amazon S3 evaluate the CORS configuration on a bucket?".
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from coldstore.s3.cors import ANY, METHODS, CorsRule, CorsRules
from coldstore.s3.errors import S3Error, shown
from coldstore.s3.fields import HeaderFields

ORIGIN = "origin"
_METHOD = "access-control-request-method"
_HEADERS = "access-control-request-headers"
VARY: Mapping[str, str] = {
    "Vary": "Origin, Access-Control-Request-Headers, Access-Control-Request-Method",
}
"""What the answers of a bucket with rules depend on, for caches between."""


class PageRequest(NamedTuple):
    """
    What a page wants to do, or does.

    ``headers`` are the names of fields of its own, in lower case.
    """

    origin: str
    method: str
    headers: tuple[str, ...]


def of_preflight(fields: HeaderFields) -> PageRequest:
    """
    Return what a browser asks whether its page may do.

    :raise S3Error: BadRequest without an origin, or without a method that there is
    """
    origin, method = fields.get(ORIGIN), fields.get(_METHOD)
    if not origin:
        raise S3Error("BadRequest", "Insufficient information. Origin request header needed.")
    if method not in METHODS:
        given = "null" if method is None else shown(method)
        raise S3Error("BadRequest", f"Invalid Access-Control-Request-Method: {given}")
    return PageRequest(origin, method, _names(fields))


def of_request(method: str, fields: HeaderFields) -> PageRequest | None:
    """
    Return what a page does; None when a request is no page's.

    A request that names a method as a preflight does is taken at its word, as S3 does.
    """
    if ORIGIN not in fields:
        return None
    try:
        return PageRequest(fields.get(ORIGIN) or "", fields.get(_METHOD) or method, _names(fields))
    except S3Error:  # not UTF-8: no origin is
        return None


def _names(fields: HeaderFields) -> tuple[str, ...]:
    names = (name.strip().lower() for name in (fields.get(_HEADERS) or "").split(","))
    return tuple(name for name in names if name)


def headers_for(rules: CorsRules, wanted: PageRequest) -> Mapping[str, str] | None:
    """Return what the browser is told by the first rule that allows what its page wants; None when none does."""
    for rule in rules:
        allowed = next((origin for origin in rule.origins if _matches(origin, wanted.origin)), None)
        if allowed is not None and wanted.method in rule.methods and _allows(rule, wanted.headers):
            return _told(rule, allowed, wanted)
    return None


def _allows(rule: CorsRule, names: Iterable[str]) -> bool:
    patterns = [pattern.lower() for pattern in rule.headers]
    return all(any(_matches(pattern, name) for pattern in patterns) for name in names)


def _matches(pattern: str, text: str) -> bool:
    beginning, wildcard, end = pattern.partition(ANY)
    if not wildcard:
        return pattern == text
    return len(text) >= len(beginning) + len(end) and text.startswith(beginning) and text.endswith(end)


def _told(rule: CorsRule, allowed: str, wanted: PageRequest) -> Mapping[str, str]:
    told = {
        "Access-Control-Allow-Origin": ANY if allowed == ANY else wanted.origin,
        "Access-Control-Allow-Methods": ", ".join(rule.methods),
    }
    if wanted.headers:
        told["Access-Control-Allow-Headers"] = ", ".join(wanted.headers)
    if rule.exposed:
        told["Access-Control-Expose-Headers"] = ", ".join(rule.exposed)
    if rule.max_age_seconds is not None:
        told["Access-Control-Max-Age"] = str(rule.max_age_seconds)
    if allowed != ANY:
        told["Access-Control-Allow-Credentials"] = "true"
    return {**told, **VARY}
