"""
Rules about pages of other origins: how they are written in documents, and which there can be. Pure.

Source: S3 API Reference, PutBucketCors and CORSRule; S3 User Guide, "Elements of a CORS configuration".
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

from coldstore.s3.errors import S3Error, shown
from coldstore.s3.xml import Element, MalformedDocument, Node, node, read_document

RULES_MAX = 100
ID_MAX = 255
"""In characters."""
AGE_MAX_SECONDS = 2**31 - 1
DOCUMENT_MAX_BYTES = 64 * 1024
METHODS = ("GET", "PUT", "POST", "DELETE", "HEAD")
ANY = "*"
"""As an origin every one, as a header any; within either whatever stands there."""

_ROOT = "CORSConfiguration"
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""The name of a header field: RFC 9110, section 5.6.2."""
_ORIGIN = re.compile(r"[!-~]+")
"""No origin has anything else: RFC 6454, section 6.2, spells names outside of ASCII in ASCII."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CorsRule:
    """
    What pages of some origins may do with a bucket and see of its answers.

    :ivar origins: with one ``*`` in each at most
    :ivar methods: out of ``METHODS``
    :ivar headers: fields that requests may have, with one ``*`` in each at most
    :ivar exposed: fields of answers that the page may read
    :ivar max_age_seconds: how long a browser may go by an answer to its question; None leaves it to the browser
    """

    rule_id: str | None = None
    origins: tuple[str, ...]
    methods: tuple[str, ...]
    headers: tuple[str, ...] = ()
    exposed: tuple[str, ...] = ()
    max_age_seconds: int | None = None


CorsRules = tuple[CorsRule, ...]


def parse_cors(document: bytes) -> CorsRules:
    """
    Read a ``CORSConfiguration``.

    :raise S3Error: InvalidRequest for rules that there cannot be, naming what is wrong with which
    :raise MalformedDocument: for anything that is no such document
    """
    root = read_document(document, _ROOT, limit_bytes=DOCUMENT_MAX_BYTES)
    _refuse_others(root, {"CORSRule"})
    if not root.children:
        raise MalformedDocument(f"{_ROOT} has no CORSRule")
    if len(root.children) > RULES_MAX:
        raise _refusal(
            f"The number of CORS rules should not exceed allowed limit of {RULES_MAX} rules: there are "
            f"{len(root.children)}."
        )
    rules = tuple(map(_rule, root.children))
    ids = [rule.rule_id for rule in rules if rule.rule_id is not None]
    for rule_id in ids:
        if ids.count(rule_id) > 1:
            raise _refusal(f"Rule ID must be unique. Found same ID for more than one rule: {shown(rule_id)}")
    return rules


def _rule(rule: Element) -> CorsRule:
    _refuse_others(
        rule, {"ID", "AllowedOrigin", "AllowedMethod", "AllowedHeader", "ExposeHeader", "MaxAgeSeconds"}
    )
    return CorsRule(
        rule_id=_rule_id(rule),
        origins=tuple(map(_origin, _texts(rule, "AllowedOrigin", at_least_one=True))),
        methods=tuple(map(_method, _texts(rule, "AllowedMethod", at_least_one=True))),
        headers=tuple(map(_allowed_header, _texts(rule, "AllowedHeader"))),
        exposed=tuple(map(_exposed_header, _texts(rule, "ExposeHeader"))),
        max_age_seconds=_max_age(rule),
    )


def _refuse_others(element: Element, names: set[str]) -> None:
    for child in element.children:
        if child.name not in names:
            raise MalformedDocument(f"{element.name} has no element {shown(child.name)}")


def _texts(rule: Element, name: str, *, at_least_one: bool = False) -> list[str]:
    found = rule.all(name)
    if at_least_one and not found:
        raise MalformedDocument(f"a CORSRule has no {name}")
    for each in found:
        if each.children:
            raise MalformedDocument(f"{name} holds elements, not text")
    return [each.text.strip() for each in found]


def _rule_id(rule: Element) -> str | None:
    rule_id = (rule.text_of("ID") or "").strip()
    if len(rule_id) > ID_MAX:
        raise _refusal(
            f"The ID of a CORS rule has {ID_MAX} characters at most, and {shown(rule_id)} has {len(rule_id)}."
        )
    return rule_id or None


def _origin(text: str) -> str:
    _refuse_wildcards("AllowedOrigin", text)
    if not _ORIGIN.fullmatch(text):
        raise _refusal(
            f"AllowedOrigin {shown(text)} is no origin: it is a scheme, a name and perhaps a port, as in "
            "https://www.example.com, or *; names are written in ASCII (xn--...)."
        )
    return text


def _method(text: str) -> str:
    if text not in METHODS:
        raise _refusal(
            f"Found unsupported HTTP method in CORS config. Unsupported method is {shown(text)}; there are "
            f"{', '.join(METHODS)}."
        )
    return text


def _allowed_header(text: str) -> str:
    _refuse_wildcards("AllowedHeader", text)
    return _token("AllowedHeader", text)


def _exposed_header(text: str) -> str:
    if ANY in text:
        raise _refusal(
            f"ExposeHeader {shown(text)} contains wildcard. We currently do not support wildcard for ExposeHeader."
        )
    return _token("ExposeHeader", text)


def _token(name: str, text: str) -> str:
    if not _TOKEN.fullmatch(text):
        raise _refusal(f"{name} {shown(text)} is not the name of a header field.")
    return text


def _max_age(rule: Element) -> int | None:
    text = rule.text_of("MaxAgeSeconds")
    if text is None:
        return None
    text = text.strip()
    if not (text.isascii() and text.isdigit() and len(text) < 12 and int(text) <= AGE_MAX_SECONDS):
        raise MalformedDocument(f"MaxAgeSeconds is a number from 0 to {AGE_MAX_SECONDS}, not {shown(text)}")
    return int(text)


def _refuse_wildcards(name: str, text: str) -> None:
    if text.count(ANY) > 1:
        raise _refusal(f"{name} {shown(text)} can not have more than one wildcard.")


def _refusal(message: str) -> S3Error:
    return S3Error("InvalidRequest", message)


def cors_node(rules: CorsRules) -> Node:
    """Return the document that shows rules."""
    return node(_ROOT, *map(_rule_node, rules))


def _rule_node(rule: CorsRule) -> Node:
    repeated: Sequence[tuple[str, tuple[str, ...]]] = (
        ("AllowedOrigin", rule.origins),
        ("AllowedMethod", rule.methods),
        ("AllowedHeader", rule.headers),
        ("ExposeHeader", rule.exposed),
    )
    return node(
        "CORSRule",
        None if rule.rule_id is None else node("ID", rule.rule_id),
        *chain.from_iterable([node(name, text) for text in texts] for name, texts in repeated),
        None if rule.max_age_seconds is None else node("MaxAgeSeconds", rule.max_age_seconds),
    )


def cors_record(rules: CorsRules) -> str:
    """Return rules as the metadata keep them."""
    return json.dumps([asdict(rule) for rule in rules], separators=(",", ":"), sort_keys=True)


def cors_of(record: str) -> CorsRules:
    """Return the rules that ``cors_record`` wrote."""
    return tuple(map(_recorded, json.loads(record)))


def _recorded(rule: Mapping[str, Any]) -> CorsRule:
    lists = {name: tuple(value) for name, value in rule.items() if isinstance(value, list)}
    return CorsRule(**{**rule, **lists})
