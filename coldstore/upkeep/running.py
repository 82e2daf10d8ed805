"""Carrying a command of ``coldstore db`` out: its settings, its end."""

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import react
from twisted.python.failure import Failure

from coldstore.config.errors import ConfigurationError
from coldstore.config.reading import load
from coldstore.config.schema import Configuration
from coldstore.interfaces.metadata import AnotherAppliance, RecordElsewhere, SchemaTooNew, SchemaTooOld
from coldstore.metadata.portable.lines import DumpDamaged
from coldstore.metadata.portable.transfer import RowsDiffer, TransferRefused
from coldstore.metadata.sql.migrations import MigrationAltered
from coldstore.metadata.sqlite.driver import finished
from coldstore.model.errors import MetadataUnavailable
from coldstore.upkeep import backup, moving, status, upgrading
from coldstore.upkeep.command import DEFAULT_CONFIGURATION
from coldstore.upkeep.desk import Desk
from coldstore.upkeep.errors import Refused
from coldstore.upkeep.places import Place, Sqlite, configured, place_of
from coldstore.upkeep.progress import Progress
from coldstore.util.accounts import account_name
from coldstore.util.tables import page

REFUSALS = (
    Refused,
    TransferRefused,
    RowsDiffer,
    DumpDamaged,
    AnotherAppliance,
    MetadataUnavailable,
    SchemaTooNew,
    SchemaTooOld,
    MigrationAltered,
    RecordElsewhere,
    OSError,
)
"""What an operator understands without a traceback."""
COMMANDS = {
    "status": status.status,
    "upgrade": upgrading.upgrade,
    "backup": backup.backup,
    "restore": backup.restore,
    "move": moving.move,
}


def run(options: argparse.Namespace) -> int:
    """
    Carry a command out.

    :return: 0 done; 1 refused
    """
    try:
        settings = load(_configuration(options.config), os.environ)
    except ConfigurationError as error:
        print(f"coldstore: mistakes in the configuration\n{error}", file=sys.stderr)
        return 1
    return carry_out(settings, options)


def carry_out(settings: Configuration, options: argparse.Namespace, *, is_quiet: bool = False) -> int:
    """
    Carry a command out with these settings.

    :param is_quiet: whether only the reason of a failure is to be said
    :return: 0 done; 1 refused
    """
    shown = open(os.devnull, "w") if is_quiet else sys.stderr  # noqa: SIM115 - lasts as long as the process
    progress = Progress(shown, time.monotonic, is_terminal=shown.isatty())
    desk = Desk(
        settings=settings,
        reactor=None,
        progress=progress,
        questions=sys.stdin,
        remarks=shown,
        now=time.time,  # noqa: TID251 - this is where clocks come from
        who=account_name(),
    )
    try:
        if all(isinstance(place, Sqlite) for place in _places(settings, options)):
            # Nothing in it waits: it needs no reactor, and an interrupt ends it at once.
            result = finished(COMMANDS[options.db](desk, options))
        else:
            result = _with_reactor(desk, options)
    except REFUSALS as error:
        progress.end()
        print(f"coldstore: {_sentence(error)}", file=sys.stderr)
        return 1
    progress.end()
    if is_quiet:
        return 0
    if options.json:
        print(json.dumps(result, ensure_ascii=False, indent=2))
    else:
        print(page(_flat(result)))
    return 0


def _places(settings: Configuration, options: argparse.Namespace) -> list[Place]:
    """Return the stores that a command works on."""
    if options.db == "move":
        return [place_of(name, settings) for name in (options.source, options.target)]
    return [configured(settings)]


def _with_reactor(desk: Desk, options: argparse.Namespace) -> dict[str, Any]:
    """
    Carry a command out with the reactor, for stores behind a network.

    :raise KeyboardInterrupt: somebody did not want to wait for its end
    """
    outcomes: list[Any] = []

    def begun(reactor: Any) -> Deferred[Any]:
        command = COMMANDS[options.db](replace(desk, reactor=reactor), options)
        return Deferred.fromCoroutine(command).addBoth(outcomes.append)

    with suppress(SystemExit):
        react(begun, ())
    if not outcomes or (isinstance(outcomes[0], Failure) and outcomes[0].check(CancelledError)):
        raise KeyboardInterrupt
    if isinstance(outcomes[0], Failure):
        outcomes[0].raiseException()
    result: dict[str, Any] = outcomes[0]
    return result


def _configuration(named: str | None) -> str | None:
    if named is not None:
        return named
    return DEFAULT_CONFIGURATION if Path(DEFAULT_CONFIGURATION).exists() else None


def _flat(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return a result for people: what holds several values becomes as many lines."""
    flat: dict[str, Any] = {}
    for name, value in result.items():
        if isinstance(value, Mapping):
            flat |= {f"{name} of {part}": each for part, each in value.items()}
        else:
            flat[name] = value
    return flat


def _sentence(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'a file'}: {error.strerror}"
    return str(error) or type(error).__name__
