"""``coldstore db backup`` and ``restore``."""

import argparse
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from coldstore.interfaces.metadata import SchemaTooNew
from coldstore.metadata.portable.dumped import CheckedDump, DumpSnapshot, check_dump
from coldstore.metadata.portable.dumping import dump
from coldstore.metadata.portable.lines import DumpDamaged, Trailer, read_header
from coldstore.metadata.portable.packing import packed_lines
from coldstore.metadata.portable.stores import Snapshot
from coldstore.metadata.portable.transfer import Sums, transfer
from coldstore.metadata.sql.record import demand_record
from coldstore.metadata.sql.tables import TABLES
from coldstore.metadata.sqlite.connection import is_damaged
from coldstore.metadata.sqlite.older import load_older
from coldstore.model.errors import MetadataUnavailable
from coldstore.upkeep.desk import Desk
from coldstore.upkeep.errors import Refused
from coldstore.upkeep.holding import demand_owner, held
from coldstore.upkeep.places import Place, configured
from coldstore.util.home import note, noted

SCRATCH = "restore-"
"""Begins the name of a folder in the state directory for what a restore needs on its way."""


async def backup(desk: Desk, options: argparse.Namespace) -> dict[str, Any]:
    """
    Dump the store of the configuration, also while an appliance works on it.

    :raise Refused, MetadataUnavailable, RecordElsewhere, OSError: no file was made
    """
    place = configured(desk.settings)
    demand_owner([desk.settings.state_directory, *place.paths])
    path = Path(options.file).absolute()
    if path.is_dir():
        raise Refused(f"{path} is a directory: name a file in it")
    _demand_replaceable(path)
    trailer = await dump_of(place, path, desk)
    return {
        "store": place.name,
        "file": str(path),
        "size_bytes": path.stat().st_size,
        "rows": sum(trailer.rows.values()),
        "sha256": trailer.sha256,
    }


def _demand_replaceable(path: Path) -> None:
    """
    See that a dump takes the place of nothing, or of an earlier dump: not of the metadata themselves, by a slip of the hand.

    :raise Refused: something else is there
    """
    if not os.path.lexists(path):
        return
    if not path.is_file():
        raise Refused(f"{path} is no file: name one that is not there yet")
    if not path.stat().st_size:
        return
    try:
        read_header(next(packed_lines(path), b""))
    except DumpDamaged:
        raise Refused(
            f"{path} is there and is no dump: name another file, or remove that one first"
        ) from None


async def dump_of(place: Place, path: Path, desk: Desk) -> Trailer:
    """
    Dump a store, of whatever schema.

    :raise MetadataUnavailable, RecordElsewhere, OSError: no file was made
    """
    snapshot = await place.snapshot(desk.reactor)
    try:
        standing = await snapshot.standing()
        demand_record(arriving_from=standing.arriving_from, moved_to=standing.moved_to)

        def tell(done: int, expected: int) -> None:
            desk.progress("dumping", done, expected)

        trailer = await dump(snapshot, path, backend=place.backend, made_at=desk.now(), tell=tell)
    finally:
        await snapshot.close()
    desk.progress.end()
    return trailer


async def restore(desk: Desk, options: argparse.Namespace) -> dict[str, Any]:
    """
    Bring a dump into the store of the configuration.

    :raise Refused, TransferRefused, DumpDamaged, SchemaTooNew: nothing was changed
    :raise RowsDiffer, MetadataUnavailable, OSError: it is not through; no appliance starts until it is
    """
    settings = desk.settings
    place = configured(settings)
    demand_owner([settings.state_directory, *place.paths])
    with held(settings, [place]):
        checked = _checked(Path(options.file), desk)
        schema = checked.header.standing.schema
        if schema > place.newest_schema:
            raise SchemaTooNew(
                f"{options.file} has schema {schema}, of a newer program; this one knows {place.newest_schema}. Nothing was changed"
            )
        if options.replace and await place.is_there(desk.reactor):
            desk.demand_consent(f"Everything in {place.name} is removed first.", is_given=options.yes)
        if not options.replace:
            _demand_home(Path(settings.state_directory), checked)
        # What a restore has left that was killed is as secret as the dump.
        for left in Path(settings.state_directory).glob(f"{SCRATCH}*"):
            shutil.rmtree(left)
        with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=settings.state_directory) as folder:
            source = _source(checked, Path(folder), place.newest_schema)
            try:
                sums = await _brought(source, place, checked, desk, may_replace=options.replace)
            except MetadataUnavailable as error:
                if not is_damaged(error):
                    raise
                files = " and ".join(f"{path} (with {path}-wal and {path}-shm)" for path in place.paths)
                raise Refused(f"{error}. Move {files} away, and give the same command again") from error
            finally:
                await source.close()
    return {
        "file": options.file,
        "store": place.name,
        "appliance_id": checked.header.standing.appliance_id,
        "rows": sums.rows,
        "result": "the metadata are those of the dump; the appliance may be started",
    }


def _demand_home(state_directory: Path, checked: CheckedDump) -> None:
    """
    See that the state directory is that of the appliance whose metadata come, or nobody's.

    :raise Refused: it holds the bytes of another one
    """
    whose, its = noted(state_directory), checked.header.standing.appliance_id
    if whose not in ("", its):
        raise Refused(
            f"{state_directory} holds the bytes of appliance {whose}, and the dump is of {its}: with --replace they are given up"
        )


def _checked(path: Path, desk: Desk) -> CheckedDump:
    try:
        checked = check_dump(path, lambda done: desk.progress("checking the dump", done, 0))
    except DumpDamaged as error:
        raise DumpDamaged(f"{path}: {error}. Nothing was changed") from None
    desk.progress.end()
    return checked


def _source(checked: CheckedDump, folder: Path, newest_schema: int) -> Snapshot:
    """Return the rows of a dump as the newest schema has them."""
    if checked.header.standing.schema < newest_schema:
        return load_older(checked, str(folder / "older.sqlite"))
    shape = [(table.name, table.columns, table.key) for table in checked.header.tables]
    if shape != [(table.name, table.columns, table.key) for table in TABLES]:
        raise DumpDamaged(f"{checked.path}: it says that it has schema {newest_schema}, and has other tables")
    return DumpSnapshot(checked)


async def _brought(
    source: Snapshot, place: Place, checked: CheckedDump, desk: Desk, *, may_replace: bool
) -> Sums:
    async def settling() -> None:
        """From now on the state directory is that of whoever the dump was of, before anybody can start there."""
        note(Path(desk.settings.state_directory), checked.header.standing.appliance_id)

    target = await place.portable(desk.reactor)
    try:
        return await transfer(
            source,
            target,
            origin=checked.name,
            may_replace=may_replace,
            tell=desk.tell,
            before_settling=settling,
            now=desk.now(),
            act=desk.act("restore metadata", target.name, f"from {checked.path}"),
        )
    finally:
        await target.close()
