"""Nobody else writes a store while a command does; and no command leaves files behind that the appliance cannot use."""

import os
import pwd
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from coldstore.config.schema import Configuration
from coldstore.upkeep.errors import Refused
from coldstore.upkeep.places import Place, Sqlite
from coldstore.util.statedir import StateDirectory, StateDirectoryInUse, holder_of


@contextmanager
def held(settings: Configuration, places: Iterable[Place]) -> Iterator[None]:
    """
    Keep appliances off the state directory, and off the folders of the files that are written.

    :raise Refused: an appliance runs there, or a command does
    """
    folders = {os.path.realpath(settings.state_directory)} | {
        os.path.realpath(os.path.dirname(place.path))
        for place in places
        if isinstance(place, Sqlite) and place.path != settings.sqlite_path
    }
    with ExitStack() as stack:
        for folder in sorted(folders):
            try:
                stack.callback(StateDirectory(Path(folder)).release)
            except StateDirectoryInUse:
                raise Refused(
                    f"{folder} is in use by {holder_of(Path(folder)) or 'an unknown process'}: an appliance, or another command. "
                    "Stop it first, such as by: systemctl stop coldstore"
                ) from None
        yield


def demand_owner(paths: Iterable[str]) -> None:
    """
    See that what a command makes there belongs to whom the appliance runs as.

    :raise Refused: something there belongs to somebody else
    """
    for path in paths:
        try:
            owner = os.stat(path).st_uid
        except FileNotFoundError:
            continue
        if owner != os.geteuid():
            name = _name_of(owner)
            raise Refused(
                f"{path} belongs to {name}, and what is made there must, too. Try: sudo -u {name} coldstore db …"
            )


def _name_of(user_id: int) -> str:
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return f"#{user_id}"
