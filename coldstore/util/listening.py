"""
Where a server listens, written as Twisted writes it (Twisted, "Getting Connected with Endpoints"): ``tcp:8420:interface=10.0.0.5``,
``tcp6:8420``, ``ssl:8443:privateKey=/etc/ssl/private/s3.key:certKey=/etc/ssl/certs/s3.pem``.

Values follow each other with ``:`` between them, by place or as ``name=value``; a backslash before ``:``, ``=`` or itself takes its
meaning away.
"""

import re
from dataclasses import dataclass

BACKLOG = 512
_ANYWHERE = {"tcp": "", "tcp6": "::", "ssl": ""}
_NAMES = {
    "tcp": ("port", "interface", "backlog"),
    "tcp6": ("port", "interface", "backlog"),
    "ssl": ("port", "interface", "backlog", "privateKey", "certKey", "extraCertChain"),
}
_FILES = ("privateKey", "certKey", "extraCertChain")


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """
    PEM files of one certificate.

    :ivar certificate_file: the certificate, and behind it those between it and a root that clients know
    :ivar chain_file: more of those; None: there are none
    """

    certificate_file: str
    key_file: str
    chain_file: str | None = None

    @property
    def paths(self) -> tuple[str, ...]:
        """All of them, each once."""
        named = (self.certificate_file, self.key_file, self.chain_file)
        return tuple(dict.fromkeys(path for path in named if path is not None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """
    One place to listen.

    :ivar interface: an address; empty: all of IPv4
    :ivar tls: None: in the clear
    """

    interface: str
    port: int
    backlog: int = BACKLOG
    tls: TlsFiles | None = None


def listener_of(text: str) -> Listener:
    """
    Read an endpoint.

    :raise ValueError: says what is wrong
    """
    kind, *parts = _split(text)
    names = _NAMES.get(kind[1]) if kind[0] is None else None
    if names is None:
        raise ValueError(f"{text!r} does not begin with tcp:, tcp6: or ssl:")
    values: dict[str, str] = {}
    for place, (name, value) in enumerate(parts):
        # By place comes what is not named: the port alone.
        name = name or (names[0] if place == 0 else None)
        if name not in names:
            raise ValueError(
                f"{text!r}: {f'{name}={value}' if name else value} is not understood (there are {', '.join(names)})"
            )
        if name in values:
            raise ValueError(f"{text!r} has {name} twice")
        values[name] = value
    return Listener(
        interface=values.get("interface", _ANYWHERE[kind[1]]),
        port=_number(text, values, "port", None, 65535),
        backlog=_number(text, values, "backlog", BACKLOG, 65535),
        tls=_files(text, values) if kind[1] == "ssl" else None,
    )


def _files(text: str, values: dict[str, str]) -> TlsFiles:
    if "privateKey" not in values:
        raise ValueError(
            f"{text!r} needs privateKey=FILE, and certKey=FILE unless the certificate is in that file too"
        )
    for name in _FILES:
        if name in values and not values[name].startswith("/"):
            raise ValueError(f"{text!r}: {name} is not an absolute path")
    key_file = values["privateKey"]
    return TlsFiles(
        certificate_file=values.get("certKey", key_file),
        key_file=key_file,
        chain_file=values.get("extraCertChain"),
    )


def _number(text: str, values: dict[str, str], name: str, default: int | None, most: int) -> int:
    written = values.get(name, "" if default is None else str(default))
    if not re.fullmatch(r"[0-9]{1,9}", written, re.ASCII) or int(written) > most:
        raise ValueError(f"{text!r} needs a {name} of 0 to {most}")
    return int(written)


def _split(text: str) -> list[tuple[str | None, str]]:
    """Return the parts of an endpoint, each with its name or None."""
    parts: list[tuple[str | None, str]] = []
    name: str | None = None
    value = ""
    characters = iter(text)
    for character in characters:
        if character == "\\":
            value += next(characters, "")
        elif character == ":":
            parts.append((name, value))
            name, value = None, ""
        elif character == "=" and name is None:
            name, value = value, ""
        else:
            value += character
    return [*parts, (name, value)]
