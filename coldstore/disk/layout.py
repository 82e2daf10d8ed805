"""Where everything lies below the directory of the disk."""

from dataclasses import dataclass
from pathlib import Path

from coldstore.disk.addresses import FileAddress

BLOCKS = ".blocks"
RECORDS = ".records"
DEAD = ".dead"
SCRATCH = ".scratch"
FAN_OUT = tuple(f"{number:02x}" for number in range(256))


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths below one directory."""

    root: Path

    @property
    def incoming(self) -> Path:
        """Large pieces that are arriving."""
        return self.root / "incoming"

    @property
    def files(self) -> Path:
        """Large pieces, in directories of their own by the first digits of their names."""
        return self.root / "files"

    @property
    def recall(self) -> Path:
        """Containers that the mover is filling."""
        return self.root / "recall"

    @property
    def containers(self) -> Path:
        """Segments and recalled containers, with their lists."""
        return self.root / "containers"

    @property
    def used(self) -> Path:
        """The account when it was last noted."""
        return self.root / "used"

    def directories(self) -> list[Path]:
        """Everything that must exist, parents first."""
        fan_out = [self.files / name for name in FAN_OUT]
        return [self.root, self.incoming, self.files, self.recall, self.containers, *fan_out]

    def arriving(self, address: FileAddress) -> Path:
        """A large piece before it is published."""
        return self.incoming / address.name

    def scratch(self, address: FileAddress) -> Path:
        """A file of our own that is no piece, among what is dropped at every start."""
        return self.incoming / (address.name + SCRATCH)

    def file(self, address: FileAddress) -> Path:
        """A large piece."""
        return self.files / address.fan_out / address.name

    def blocks(self, address: FileAddress) -> Path:
        """Its block checksums."""
        return self.files / address.fan_out / (address.name + BLOCKS)

    def filling(self, container: str) -> Path:
        """A container that the mover is filling."""
        return self.recall / container

    def container(self, name: str) -> Path:
        """A container."""
        return self.containers / name

    def records(self, name: str) -> Path:
        """Its list of pieces."""
        return self.containers / (name + RECORDS)

    def dead(self, name: str) -> Path:
        """What was discarded of it."""
        return self.containers / (name + DEAD)
