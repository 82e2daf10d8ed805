"""The commands about keys of data: looking at them, changing them, writing them out for the safe and taking them back from there."""

import argparse
import getpass
import json
import os
import sys
from pathlib import Path
from typing import Any

from coldstore.admin.client import Client, Refused
from coldstore.util.accounts import account_name
from coldstore.util.folders import sync_folder
from coldstore.util.tables import table

ACTIONS = ("data", "rotate-data", "export", "import")
COLUMNS = ("key", "state", "since", "retired_at", "exported_at", "versions")
TEXT_MAX = 1_000_000
KEPT = (
    "Retired keys are kept for ever: copies on tape stay under the key with which they were written. Keep an export of all of them where"
    " neither disks nor cartridges are (coldstore keys export FILE)."
)


def carry_out(client: Client, options: argparse.Namespace) -> int:
    """
    Run one of ``ACTIONS``.

    :return: 0 done; 2 wrong usage
    """
    action = options.action
    if (action in ("export", "import")) is not bool(options.subject):
        print(
            f"coldstore: keys {action} {'needs a FILE' if not options.subject else 'takes no argument'}",
            file=sys.stderr,
        )
        return 2
    if options.passphrase and action != "export":
        print("coldstore: --passphrase goes with export", file=sys.stderr)
        return 2
    if action == "data":
        _show(options, client.get("/data-keys"))
    elif action == "rotate-data":
        _rotate(client, options)
    elif action == "export":
        _export(client, options)
    else:
        _import(client, options)
    return 0


def _show(options: argparse.Namespace, rows: Any) -> None:
    if options.json:
        print(json.dumps(rows, ensure_ascii=False, indent=2))
    elif rows:
        print(f"{table(rows, COLUMNS)}\n\n{KEPT}")
    else:
        print("There are no keys of data yet: the first object that is to be encrypted has one made.")


def _rotate(client: Client, options: argparse.Namespace) -> None:
    changed: Any = client.post("/data-keys/rotate", {"by": account_name()})
    _tell(
        options,
        changed,
        f"New objects are encrypted under the key of data {changed['key']}; in the record those from before come under it by and by"
        f" (coldstore keys data shows how far).\n{KEPT}",
    )


def _export(client: Client, options: argparse.Namespace) -> None:
    path = Path(options.subject)
    word = _new_passphrase() if options.passphrase else None
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Refused(f"{path} cannot be made: {error.strerror}") from None
    try:
        exported: Any = client.post("/data-keys/export", {"by": account_name()})
        plain = _with_script(exported["text"])
        text = plain if word is None else _sealed(plain, word)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            descriptor = -1
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(path.parent)
        if path.read_text("ascii") != text or (word is not None and _opened(text, word) != plain):
            raise Refused(f"{path} does not give back what was written to it: use another disk")
    except BaseException as error:
        if descriptor >= 0:
            os.close(descriptor)
        path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise Refused(f"{path} cannot be written: {error.strerror}") from None
        raise
    client.post("/data-keys/exported", {"by": account_name(), "keys": exported["keys"]})
    _tell(
        options,
        {"file": str(path), "keys": exported["keys"], "needs_passphrase": word is not None},
        f"{path} has {len(exported['keys'])} keys of data. {_CARE if word is None else _CARE_SEALED}",
    )


def _with_script(text: str) -> str:
    """Return an export with what decrypts objects with it: cartridges from before there were keys of data do not have that."""
    from coldstore.ontape.readme import DECRYPT_SCRIPT

    script = "".join(f"#> {line}".rstrip() + "\n" for line in DECRYPT_SCRIPT.splitlines())
    return f"{text}#\n{_SCRIPT_HEAD}{script}"


_SCRIPT_HEAD = """\
# What decrypts objects of any cartridge with this file:  sed -n 's/^#>[ ]\\{0,1\\}//p' FILE > decrypt-object.py
"""
_CARE = "Whoever has it reads all that is encrypted: put it where neither disks nor cartridges are, and remove it from here."
_CARE_SEALED = "It opens with the passphrase alone: keep both, apart from each other, and not where disks and cartridges are."


def _import(client: Client, options: argparse.Namespace) -> None:
    path = Path(options.subject)
    try:
        with path.open(encoding="ascii", errors="replace") as file:
            text = file.read(TEXT_MAX)
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from None
    from coldstore.util.passphrases import is_sealed

    if is_sealed(text):
        try:
            text = _opened(text, _passphrase("Passphrase: "))
        except ValueError as error:
            raise Refused(f"{path}: {error}") from None
    taken: Any = client.post("/data-keys/import", {"by": account_name(), "text": text})
    new = ", ".join(taken["keys"])
    _tell(
        options,
        taken,
        f"{taken['key_file']} has these keys of data now, too: {new}"
        if new
        else "All of them were here already.",
    )


def _tell(options: argparse.Namespace, document: Any, words: str) -> None:
    print(json.dumps(document, ensure_ascii=False, indent=2) if options.json else words)


def _sealed(text: str, word: str) -> str:
    # Loaded where it is needed: other commands answer at once.
    from coldstore.util import passphrases

    return passphrases.sealed_text(
        text,
        word,
        what="Keys of data of a ColdStore appliance, for the safe.",
        salt=os.urandom(passphrases.SALT_BYTES),
        nonce=os.urandom(passphrases.NONCE_BYTES),
    )


def _opened(text: str, word: str) -> str:
    from coldstore.util.passphrases import opened_text

    return opened_text(text, word)


def _new_passphrase() -> str:
    word = _passphrase("Passphrase for the export: ")
    if not word:
        raise Refused("an empty passphrase protects nothing")
    if sys.stdin.isatty() and _passphrase("Once more: ") != word:
        raise Refused("these are two different passphrases")
    return word


def _passphrase(prompt: str) -> str:
    """Ask for it; who is no terminal has it in the first line."""
    return getpass.getpass(prompt) if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
