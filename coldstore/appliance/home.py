"""Where an appliance keeps its bytes: its record and its state directory belong together, wherever the record is kept."""

from pathlib import Path

from coldstore.interfaces.metadata import IMetadataStore
from coldstore.util import home


class OtherHome(OSError):
    """The record belongs to another state directory, or the state directory to another record."""


async def demand_home(
    store: IMetadataStore, *, state_directory: Path, staging_directory: Path, where: str
) -> None:
    """
    See that the record and the state directory are of one appliance, and note it.

    With another record, the bytes of uploads that are not on tape yet would be taken for nobody's and swept; with another directory,
    they would not be found.

    :param where: what the record is kept in, for messages
    :raise OtherHome: they are not
    """
    noted = home.noted(state_directory)
    if noted and noted != store.appliance_id:
        raise OtherHome(
            f"{state_directory} holds the bytes of appliance {noted}, and the metadata in {where} are those of "
            f"{store.appliance_id}: name the right ones, or a state_directory that is not there yet for a new appliance"
        )
    if noted:
        return
    if not staging_directory.exists() and await store.newest_epoch() is not None:
        raise OtherHome(
            f"{state_directory} is new, and the metadata in {where} are not: uploads that are not on tape yet lie in the state "
            f"directory of appliance {store.appliance_id}. Name that one; if it is lost for good, make {staging_directory} by hand"
        )
    home.note(state_directory, store.appliance_id)
