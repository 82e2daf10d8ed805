"""``coldstore db status``: which store it is, and whether this program can use it."""

import argparse
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from coldstore.upkeep.desk import Desk
from coldstore.upkeep.dumps import dumps_in
from coldstore.upkeep.holding import demand_owner
from coldstore.upkeep.places import configured
from coldstore.util.statedir import holder_of


async def status(desk: Desk, options: argparse.Namespace) -> dict[str, Any]:
    """
    Look at the store of the configuration; nothing is changed, and a running appliance is not disturbed.

    :raise MetadataUnavailable: it cannot be read
    """
    settings = desk.settings
    place = configured(settings)
    demand_owner([settings.state_directory, *place.paths])
    found: dict[str, Any] = {
        "store": place.name,
        "appliance": _running(settings.state_directory),
    }
    if not await place.is_there(desk.reactor):
        return {
            **found,
            "schema": None,
            "remark": "there is no store yet: the first start of the appliance makes it",
            **_dumps(desk),
        }
    snapshot = await place.snapshot(desk.reactor)
    try:
        standing = await snapshot.standing()
        found["schema"] = standing.schema
        found |= _misfit(standing.schema, place.newest_schema)
        found["appliance_id"] = standing.appliance_id
        found["run"] = standing.epoch
        found["last_version"] = standing.last_version
        if standing.arriving_from:
            found["not_whole"] = f"not all has arrived from {standing.arriving_from}"
        if standing.moved_to:
            found["moved_to"] = standing.moved_to
        found["size_bytes"] = await place.size_bytes(desk.reactor)
        found |= _dumps(desk)
        if options.rows:
            found["rows"] = {table.name: await snapshot.count(table) for table in snapshot.tables}
    finally:
        await snapshot.close()
    return found


def _running(state_directory: str) -> str:
    holder = holder_of(Path(state_directory))
    return f"runs as {holder}" if holder else "does not run"


def _misfit(schema: int, newest: int) -> dict[str, str]:
    if schema < newest:
        return {"schema_wanted": f"{newest}: run `coldstore db upgrade`"}
    return {"schema_wanted": f"{newest}: it was written by a newer program"} if schema > newest else {}


def _dumps(desk: Desk) -> dict[str, Any]:
    folder = Path(desk.settings.dumps_directory)
    try:
        dumps = dumps_in(folder)
    except OSError as error:
        return {"last_dump": f"{folder}: {error.strerror}"}
    if not dumps:
        return {"last_dump": f"none in {folder}"}
    last = dumps[-1]
    made_at = datetime.fromtimestamp(last.at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return {"last_dump": f"{made_at}, {os.path.join(folder, last.name)}", "last_dump_bytes": last.size_bytes}
