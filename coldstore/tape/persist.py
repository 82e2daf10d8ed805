"""
The language of ``sg_persist`` (sg3_utils): argument lists, and what its answers mean. Pure functions.

Source: sg_persist(8), sg3_utils(8) for the exit statuses, SPC-4 5.12 and 6.15 f. for persistent reservations, and the program's own
output (0.67, sg3-utils 1.46). The reference ``ltfs`` registers and reserves a drive by itself while it uses it, with type 3 and a key
whose first byte tells what the rest is made of; it is one initiator with us, so its key takes the place of ours, and when it ends it
leaves the drive to everybody.
"""

import re
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address

from coldstore.interfaces.process import Completed
from coldstore.model.hosts import Host
from coldstore.tape.output import UnknownOutput, text_of

EXCLUSIVE_ACCESS = 3
"""Nobody but the holder may use the device: the type that ``ltfs`` takes, and another one would be in its way."""
KEY_BYTES = 8
_OURS, _LTFS_NAME, _LTFS_IPV4, _LTFS_IPV6 = 0xC5, 0x10, 0x40, 0x60
_FREE = re.compile(r"PR generation=0x[0-9a-f]+, there is NO reservation held")
_HELD = re.compile(r"PR generation=0x[0-9a-f]+, Reservation follows:")
_KEY = re.compile(r"Key=0x(?P<key>[0-9a-f]{1,16})")
_TYPE = re.compile(r"scope: (?P<scope>[^,]+),\s+type: (?P<type>.+)")


class Trouble(Enum):
    """Why a command did not do what it was to do."""

    CONFLICT = "somebody else has reserved it"
    UNSUPPORTED = "it knows no persistent reservations"
    PASSING = "it was busy with something else"
    OTHER = "it failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A reservation: whose key, and its type in the program's words."""

    key: bytes
    type: str


def key_of(host: Host, appliance_id: str) -> bytes:
    """Return the key of a machine as host of an appliance, the same over all its boots."""
    return bytes((_OURS,)) + host.digest(appliance_id)[: KEY_BYTES - 1]


def is_of_ltfs(key: bytes) -> bool:
    """Whether a key has the form that the reference ``ltfs`` gives its keys."""
    return (key[0] == _LTFS_IPV4 and key[1:4] == b"\0\0\0") or key[0] in (_LTFS_IPV6, _LTFS_NAME)


def holder_of(key: bytes) -> str:
    """Say who has a key, as far as it tells."""
    raw = f"key 0x{key.hex()}"
    match key[0]:
        case n if n == _LTFS_IPV4 and is_of_ltfs(key):
            return f"the LTFS of {IPv4Address(key[4:])} ({raw})"
        case n if n == _LTFS_IPV6:
            return f"the LTFS of a machine whose IPv6 address ends in {key[1:].hex(':')} ({raw})"
        case n if n == _LTFS_NAME:
            name = key[1:].rstrip(b"\0").decode("ascii", "backslashreplace")
            return f"the LTFS of a machine called {name} ({raw})"
        case n if n == _OURS:
            return f"a ColdStore on another machine ({raw})"
    return f"another machine ({raw})"


def register_command(program: str, device: str, key: bytes) -> tuple[str, ...]:
    """Make a key ours, whatever key we had before."""
    return (program, "--no-inquiry", "--out", "--register-ignore", f"--param-sark={key.hex()}", device)


def reserve_command(program: str, device: str, key: bytes) -> tuple[str, ...]:
    """Reserve, if it is not reserved."""
    return (
        program, "--no-inquiry", "--out", "--reserve", f"--param-rk={key.hex()}",
        f"--prout-type={EXCLUSIVE_ACCESS}", device,
    )  # fmt: skip


def preempt_command(program: str, device: str, key: bytes, theirs: bytes) -> tuple[str, ...]:
    """
    Take the reservation from whoever has a key, and break off what they have under way.

    The abort also ends their lock on the cartridge (SPC-4, 5.12.11.2.7).
    """
    return (
        program, "--no-inquiry", "--out", "--preempt-abort", f"--param-rk={key.hex()}",
        f"--param-sark={theirs.hex()}", f"--prout-type={EXCLUSIVE_ACCESS}", device,
    )  # fmt: skip


def read_command(program: str, device: str) -> tuple[str, ...]:
    """Ask who has it."""
    return (program, "--no-inquiry", "--in", "--read-reservation", device)


def parse_reservation(stdout: bytes) -> Held | None:
    """
    Read the answer to ``read_command``; None: nobody has it.

    :raise UnknownOutput: a line is missing or of another form
    """
    lines = [line.strip() for line in text_of(stdout).splitlines() if line.strip()]
    if len(lines) == 1 and _FREE.fullmatch(lines[0]):
        return None
    if len(lines) == 3 and _HELD.fullmatch(lines[0]):
        key, kind = _KEY.fullmatch(lines[1]), _TYPE.fullmatch(lines[2])
        if key and kind:
            return Held(key=int(key["key"], 16).to_bytes(KEY_BYTES, "big"), type=kind["type"])
    raise UnknownOutput("sg_persist --read-reservation", f"{text_of(stdout)!r}")


_TROUBLES = {
    24: Trouble.CONFLICT,
    5: Trouble.UNSUPPORTED,
    9: Trouble.UNSUPPORTED,
    2: Trouble.PASSING,
    6: Trouble.PASSING,
    11: Trouble.PASSING,
    26: Trouble.PASSING,
    27: Trouble.PASSING,
    29: Trouble.PASSING,
}
"""By exit status (sg3_utils(8)): not ready, unit attention, aborted, busy, queue full and task aborted pass by themselves."""


def explain(completed: Completed) -> Trouble | None:
    """Say why a command failed, None when it did not."""
    if completed.is_success:
        return None
    if completed.exit_status is None:
        return Trouble.OTHER
    return _TROUBLES.get(completed.exit_status, Trouble.OTHER)
