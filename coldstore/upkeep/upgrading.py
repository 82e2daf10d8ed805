"""``coldstore db upgrade``: the metadata of an older release become those of this one."""

import argparse
from pathlib import Path
from typing import Any

from coldstore.upkeep.backup import dump_of
from coldstore.upkeep.desk import Desk
from coldstore.upkeep.dumps import path_for
from coldstore.upkeep.errors import Refused
from coldstore.upkeep.holding import demand_owner, held
from coldstore.upkeep.places import configured


async def upgrade(desk: Desk, options: argparse.Namespace) -> dict[str, Any]:
    """
    Upgrade the store of the configuration, in one transaction, after a dump.

    :raise Refused, MetadataUnavailable, SchemaTooNew, MigrationAltered, OSError: nothing was changed
    """
    settings = desk.settings
    place = configured(settings)
    demand_owner([settings.state_directory, *place.paths])
    if not await place.is_there(desk.reactor):
        raise Refused(
            f"there is nothing to upgrade: {place.name} is made by the first start of the appliance"
        )
    with held(settings, [place]):
        needed = await place.needed(desk.reactor)
        snapshot = await place.snapshot(desk.reactor)
        try:
            before = (await snapshot.standing()).schema
        finally:
            await snapshot.close()
        found: dict[str, Any] = {"store": place.name, "schema_before": before, "schema": place.newest_schema}
        if not needed:
            return {**found, "result": "it is up to date: nothing was done"}
        desk.say(f"{place.name}: schema {before} becomes {needed[-1].number}, in {len(needed)} steps")
        if not options.no_dump:
            path = path_for(Path(settings.dumps_directory), desk.now(), before_upgrade_of=before)
            await dump_of(place, path, desk)
            found["dump"] = str(path)
        await place.upgrade(desk.reactor)
    return {**found, "result": "done"}
