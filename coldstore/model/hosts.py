"""Which machine runs the appliance: known again after a restart, and told apart from another one."""

from dataclasses import dataclass
from hashlib import sha256

_UNKNOWN = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """
    One machine.

    :ivar name: its host name, for people
    :ivar machine_id: what machine-id(5) says; empty when it has none
    :ivar boot_id: which boot of which kernel this is; empty when the kernel does not tell
    """

    name: str
    machine_id: str = ""
    boot_id: str = ""

    @property
    def text(self) -> str:
        """It in one line, for the record; ``of_text`` reads it."""
        return f"{self.machine_id or _UNKNOWN} {self.boot_id or _UNKNOWN} {self.name}"

    @classmethod
    def of_text(cls, text: str) -> "Host | None":
        """
        Return the machine that was recorded, None for an empty text: nobody noted it.

        :raise ValueError: the text is none of ``Host.text``
        """
        if not text:
            return None
        words = text.split(" ", 2)
        if len(words) != 3:
            raise ValueError(f"{text!r} describes no machine")
        machine_id, boot_id, name = ("" if word == _UNKNOWN else word for word in words)
        return cls(name=name, machine_id=machine_id, boot_id=boot_id)

    def is_same(self, other: "Host") -> bool:
        """
        Whether these are one machine, certainly.

        One kernel is one machine, whatever a container on it is called. After a boot, name and machine id must both be the old ones:
        copied machines often share one of them, and to take two machines for one is what costs data.
        """
        if self.boot_id and self.boot_id == other.boot_id:
            return True
        return self.name == other.name and self.machine_id == other.machine_id

    def digest(self, appliance_id: str) -> bytes:
        """Return 32 bytes that belong to this machine as host of that appliance, over all its boots."""
        return sha256(f"{appliance_id}\n{self.machine_id}\n{self.name}".encode()).digest()


def taken_over_by(epoch: int, host: str) -> str:
    """Say who (``Host.text``) has begun a later run than ours on the metadata store."""
    known = Host.of_text(host)
    where = "" if known is None else f" on {known.name}"
    return f"another appliance{where} has taken over the metadata store (its run {epoch})"
