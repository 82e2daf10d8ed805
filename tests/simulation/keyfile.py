"""The files of the master key and of the keys of data, in a world."""

from coldstore.keys.datafile import DataKeySet
from coldstore.keys.sealing import MasterSecret
from tests.simulation.life import Life


class KeptKeys:
    """What is in the file, and in those of earlier keys: outlives every process."""

    def __init__(self) -> None:
        self.present: MasterSecret | None = None
        self.old: dict[str, MasterSecret] = {}
        self.of_data: DataKeySet | None = None


class LifeKeyFile:
    """See ``IsKeyFile``."""

    path = "/state/master.key"

    def __init__(self, kept: KeptKeys, life: Life) -> None:
        self._kept = kept
        self._life = life

    def read(self) -> MasterSecret | None:
        """See ``IsKeyFile``."""
        return self._kept.present

    def write(self, secret: MasterSecret, before: MasterSecret | None = None) -> None:
        """See ``IsKeyFile``."""
        earlier = {each.key_id: each for each in (before, self._kept.present) if each is not None}
        for key_id, each in earlier.items():
            self._life.effect("keep the old master key")
            self._kept.old[key_id] = each
        self._life.effect("write the master key")
        self._kept.present = secret

    def old(self, key_id: str) -> MasterSecret | None:
        """See ``IsKeyFile``."""
        return self._kept.old.get(key_id)

    def is_given_up(self) -> bool:
        """See ``IsKeyFile``: nobody does."""
        return False

    def forget_giving_up(self) -> None:
        """See ``IsKeyFile``."""


class LifeDataKeyFile:
    """See ``IsDataKeyFile``."""

    path = "/state/data.keys"

    def __init__(self, kept: KeptKeys, life: Life) -> None:
        self._kept = kept
        self._life = life

    def read(self) -> DataKeySet | None:
        """See ``IsDataKeyFile``."""
        return self._kept.of_data

    def write(self, keys: DataKeySet) -> None:
        """See ``IsDataKeyFile``."""
        self._life.effect("write the keys of data")
        self._kept.of_data = keys
