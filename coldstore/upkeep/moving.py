"""``coldstore db move``: the metadata go from one store into another."""

import argparse
import os
from typing import Any

from coldstore.metadata.portable.stores import Portable, Standing
from coldstore.metadata.portable.transfer import standing_of, transfer
from coldstore.upkeep.desk import Desk
from coldstore.upkeep.errors import Refused
from coldstore.upkeep.holding import demand_owner, held
from coldstore.upkeep.places import Place, Sqlite, configured, place_of


async def move(desk: Desk, options: argparse.Namespace) -> dict[str, Any]:
    """
    Move all metadata.

    :raise Refused, TransferRefused, SchemaTooNew, SchemaTooOld: nothing was changed
    :raise RowsDiffer, MetadataUnavailable, OSError: it is not through; the same command goes on
    """
    settings = desk.settings
    here, there = place_of(options.source, settings), place_of(options.target, settings)
    if here.name == there.name or _is_one_file(here, there):
        raise Refused(f"{here.name} cannot be moved to itself")
    if not await here.is_there(desk.reactor):
        raise Refused(f"there is nothing to move: {here.name} is not there")
    demand_owner([settings.state_directory, *here.paths, *there.paths])
    with held(settings, [here, there]):
        if options.replace and await there.is_there(desk.reactor):
            desk.demand_consent(f"Everything in {there.name} is removed first.", is_given=options.yes)
        source = await here.portable(desk.reactor)
        try:
            standing = await standing_of(source)
            _demand_record(source.name, standing, there.name)
            target = await there.portable(desk.reactor)
            try:
                found = await _moved(source, standing, target, desk, may_replace=options.replace)
            finally:
                await target.close()
        finally:
            await source.close()
    if configured(settings).name != there.name:
        found["next"] = f"name {there.name} in the configuration (metadata), then start the appliance"
    return found


def _is_one_file(here: Place, there: Place) -> bool:
    """Whether both are one file, by whatever names."""
    return (
        isinstance(here, Sqlite)
        and isinstance(there, Sqlite)
        and os.path.exists(here.path)
        and os.path.exists(there.path)
        and os.path.samefile(here.path, there.path)
    )


def _demand_record(name: str, standing: Standing, target: str) -> None:
    """
    See that a store holds the record, or has given it to the target.

    :raise Refused: it does not
    """
    if standing.arriving_from:
        raise Refused(f"{name} is not whole: not all has arrived there from {standing.arriving_from}")
    if standing.moved_to not in ("", target):
        raise Refused(f"the metadata of {name} were moved to {standing.moved_to}: move them from there")


async def _moved(
    source: Portable, standing: Standing, target: Portable, desk: Desk, *, may_replace: bool
) -> dict[str, Any]:
    found: dict[str, Any] = {"from": source.name, "to": target.name}
    arrived = await standing_of(target)
    if _is_through(standing, arrived, target.name):
        return {**found, "result": "they were moved before: nothing was done"}
    if standing.moved_to and not arrived.arriving_from:
        raise Refused(
            f"the metadata of {source.name} were moved to {target.name} before, and what is there now is something else"
        )
    snapshot = await source.snapshot()

    async def settling() -> None:
        await source.mark(moved_to=target.name)

    try:
        sums = await transfer(
            snapshot,
            target,
            origin=origin_of(source.name, standing),
            may_replace=may_replace,
            tell=desk.tell,
            before_settling=settling,
            now=desk.now(),
            act=desk.act("move metadata", target.name, f"from {source.name}"),
        )
    finally:
        await snapshot.close()
    return {**found, "rows": sums.rows, "result": "moved and compared"}


def origin_of(name: str, standing: Standing) -> str:
    """Return what tells the rows of a store from those that it has once an appliance has run on it again."""
    return (
        f"{name} (appliance {standing.appliance_id}, run {standing.epoch}, version {standing.last_version})"
    )


def _is_through(standing: Standing, arrived: Standing, target: str) -> bool:
    """Whether everything is there, and this command was only not told."""
    return (
        standing.moved_to == target
        and not arrived.arriving_from
        and not arrived.moved_to
        and arrived.appliance_id == standing.appliance_id
    )
