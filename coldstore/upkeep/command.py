"""
The command line of ``coldstore db``.

What it works with is loaded when one of its commands is carried out: all other commands answer without it.
"""

import argparse
from typing import Any

DEFAULT_CONFIGURATION = "/etc/coldstore/coldstore.yaml"
DESCRIPTION = (
    "Look after the metadata: the record of all objects, users and cartridges. These commands work on the configuration file, not on "
    "a running appliance. upgrade, restore and move refuse to begin while one runs; status and backup do not disturb it. "
    "Run them as the user that the appliance runs as."
)
NAMES = (
    "A STORE is sqlite, postgresql or etcd for the one that the configuration describes under metadata, whichever is the backend now; or "
    "sqlite:PATH for a file, or postgresql://USER@HOST:PORT/DATABASE, whose other settings are those of the configuration. "
    "Passwords are never part of a name."
)
BACKUP = (
    "Write all metadata, as they are at this moment, into FILE: JSON lines, packed by gzip, readable for its owner alone, because it holds the "
    "users' secret keys. It appears under its name when it is whole. The format is described in metadata/portable/FORMAT.md."
)
RESTORE = (
    "Read FILE to its end, and if it is whole and unaltered bring it into the store, compare every row, and make that the appliance's "
    "metadata. What was broken off goes on when the same command is given again; until it is through no appliance starts. Whatever was "
    "uploaded after the dump was made, and is not on tape, is unknown afterwards."
)
MOVE = (
    "Copy all metadata from one store into another and compare every row. Then the one that they came from refuses to be used, and "
    "the other one may be: name it in the configuration (metadata.backend). What was broken off goes on when the same command is given again. "
    + NAMES
)


def add_db(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add ``db`` to the commands of a command line; ``shared`` has the options of all of them."""
    db = commands.add_parser(
        "db", help="Look after the metadata: upgrade, backup, restore, move.", description=DESCRIPTION
    )
    actions = db.add_subparsers(required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False, parents=[shared])
    common.add_argument(
        "--config",
        metavar="FILE",
        help=f"the appliance's configuration (default: {DEFAULT_CONFIGURATION} if it is there, else the built-in defaults)",
    )

    def action(name: str, text: str) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = actions.add_parser(
            name, help=text.partition(".")[0] + ".", description=text, parents=[common]
        )
        added.set_defaults(run=_run, db=name)
        return added

    status = action(
        "status", "Say which store it is, whether this program can use it, and when it was dumped."
    )
    status.add_argument("--rows", action="store_true", help="count the rows of every table")
    upgrade = action(
        "upgrade",
        "Bring the metadata of an older release to what this one needs. They are dumped before, into the folder of dumps. All of it "
        "happens in one transaction: broken off, it has not happened.",
    )
    upgrade.add_argument("--no-dump", action="store_true", help="without a dump before")
    backup = action("backup", BACKUP)
    backup.add_argument("file", metavar="FILE")
    restore = action("restore", RESTORE)
    restore.add_argument("file", metavar="FILE")
    move = action("move", MOVE)
    move.add_argument("source", metavar="FROM", help="a STORE")
    move.add_argument("target", metavar="TO", help="a STORE")
    for added in (restore, move):
        added.add_argument("--replace", action="store_true", help="remove what is there, after asking")
        added.add_argument("--yes", action="store_true", help="do not ask")


def _run(_client: object, options: argparse.Namespace) -> int:
    from coldstore.upkeep.running import run

    return run(options)
