"""The tags of a version: those of its writer, which are kept as he could have sent them in a header, or those that it was given later."""

from functools import lru_cache
from urllib.parse import quote, unquote

from coldstore.model.objects import TAGGING, ObjectVersion, Pairs


def tags_of(version: ObjectVersion) -> Pairs:
    """Return the tags that a version has now, sorted by name."""
    if version.tags is not None:
        return version.tags
    written = next((value for name, value in version.facts.headers if name == TAGGING), "")
    return _read(written) if written else ()


def tags_text(tags: Pairs) -> str:
    """Return tags as they are kept among the stored headers of a version."""
    return "&".join(f"{quote(key, safe='')}={quote(value, safe='')}" for key, value in tags)


@lru_cache(maxsize=256)
def _read(text: str) -> Pairs:
    """Undo what ``tags_text`` does."""
    items = (item.partition("=") for item in text.split("&") if item)
    return tuple((unquote(key), unquote(value)) for key, _, value in items)
