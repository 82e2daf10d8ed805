"""The ``coldstore`` command."""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from coldstore.admin.client import Client, NotRunning, Refused
from coldstore.admin.overview import alert_text, overview
from coldstore.admin.policy_commands import add_policy, add_user_policy, has_words, user_policy
from coldstore.admin.quotatext import QUOTA_MEANINGS, quota_field, quota_page, quota_table
from coldstore.admin.safekeeping import ACTIONS as OF_DATA_KEYS
from coldstore.admin.safekeeping import carry_out
from coldstore.model.quotas import QuotaKind
from coldstore.upkeep.command import add_db
from coldstore.util.accounts import account_name
from coldstore.util.tables import page, size, table
from coldstore.util.units import parse_size

DEFAULT_SOCKET = "/var/lib/coldstore/admin.sock"
POLL_SECONDS = 0.5
NOT_SAID = object()

Rows = list[dict[str, Any]]


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the command.

    :return: 0 done; 1 refused or not running; 2 wrong usage; 3 waited in vain; 4 what was to be explained is denied
    """
    options = _parser().parse_args(argv)
    client = Client(options.socket)
    try:
        return int(options.run(client, options) or 0)
    except (NotRunning, Refused) as error:
        print(f"coldstore: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - the interpreter flushes it at exit
        return 0
    except KeyboardInterrupt:
        return 130


def _socket() -> str:
    socket = os.environ.get("COLDSTORE_ADMIN_SOCKET")
    if socket:
        return socket
    state = os.environ.get("COLDSTORE_STATE_DIRECTORY")
    return f"{state}/admin.sock" if state else DEFAULT_SOCKET


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="coldstore", description="Look at a running ColdStore, and tell it what to do."
    )
    parser.add_argument(
        "--socket", default=_socket(), help="the appliance's admin socket (default: %(default)s)"
    )
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true", help="print JSON for programs")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        name: str, run: Callable[[Client, argparse.Namespace], int | None], text: str
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text, parents=[shared])
        added.set_defaults(run=run)
        return added

    command("status", _status, "Everything on one page.")
    objects = command("objects", _objects, "Buckets, or the objects of one, and where their copies lie.")
    objects.add_argument("bucket", nargs="?", default="")
    objects.add_argument("key", nargs="?", default="")
    objects.add_argument("--prefix", default="")
    objects.add_argument("--limit", type=int, default=100)
    objects.add_argument(
        "--versions", action="store_true", help="of a key: what was overwritten and deleted and is kept, too"
    )
    cartridges = command("cartridges", _cartridges, "List cartridges, admit them, or decide about one.")
    cartridges.add_argument(
        "action", nargs="?", default="list", choices=["list", "admit", "withdraw", "trust", "condemn"]
    )
    cartridges.add_argument("barcodes", nargs="*", metavar="BARCODE")
    cartridges.add_argument(
        "--all", action="store_true", help="admit every cartridge that is in the library and not admitted"
    )
    cartridges.add_argument("--pool", default="", help="admit for this pool only (default: any)")
    cartridges.add_argument("--reason", default="by the coldstore command")
    drives = command("drives", _drives, "List drives and what they do, or put one up or down.")
    drives.add_argument("action", nargs="?", default="list", choices=["list", "up", "down"])
    drives.add_argument("drive", nargs="?", type=int)
    drives.add_argument("--reason", default="by the coldstore command")
    command("jobs", _jobs, "Bundles being written, restores under way, and what each drive does.")
    wait = command("wait", _wait, "Wait until objects are on tape or restored, or nothing is left to do.")
    wait.add_argument("bucket", nargs="?", default="")
    wait.add_argument("key", nargs="?", default="")
    wait.add_argument(
        "--restored",
        action="store_true",
        help="wait for a restored copy of BUCKET KEY (default: for tape copies)",
    )
    wait.add_argument(
        "--timeout", type=float, default=0.0, metavar="SECONDS", help="give up after so long (default: never)"
    )
    archive = command("archive", _archive, "Archive what waits.")
    archive.add_argument(
        "--now", action="store_true", required=True, help="without waiting for the thresholds"
    )
    drain = command("drain", _drain, "Let drives finish, take no more work, and put their cartridges away.")
    drain.add_argument(
        "--timeout", type=float, default=0.0, metavar="SECONDS", help="give up after so long (default: never)"
    )
    command("resume", _resume, "Take up work again after a drain.")
    command("inventory", _inventory, "Let the library be looked at now.")
    user = command(
        "user",
        _user,
        "Make users, list them, have their keys accepted or not, set a quota, or say what they may do.",
    )
    user.add_argument("action", choices=["create", "list", "quota", "policy", "disable", "enable", "delete"])
    user.add_argument("name", nargs="?", help="the user; of policy: set, show or remove")
    add_user_policy(user)
    add_policy(command)
    keys = command(
        "keys",
        _keys,
        "Access keys: list, make, disable, delete them, or change the master key that their secrets are under. Keys of data, which objects are"
        " encrypted under: look at them (data), take a new one (rotate-data), write them out for the safe (export), take them back (import).",
    )
    keys.add_argument(
        "action",
        nargs="?",
        default="list",
        choices=["list", "create", "disable", "enable", "delete", "rotate-master", *OF_DATA_KEYS],
    )
    keys.add_argument(
        "subject",
        nargs="?",
        default="",
        metavar="USER|KEY|FILE",
        help="create and list: a user; export and import: a file; else an access key",
    )
    keys.add_argument(
        "--passphrase",
        action="store_true",
        help="export: encrypt the file under a passphrase, which is asked for",
    )
    command("reload", _reload, "Read certificates of the S3 endpoint again, now.")
    bucket = command(
        "bucket",
        _bucket,
        "List buckets, or say how much one may have, or for how long objects may be restored in it.",
    )
    bucket.add_argument("action", choices=["list", "quota", "restore-days"])
    bucket.add_argument("name", nargs="?")
    bucket.add_argument(
        "--most",
        type=_days,
        default=NOT_SAID,
        metavar="DAYS",
        help="the most days that a restore may be asked for: a number, or default",
    )
    for added in (user, bucket):
        for kind, meaning in QUOTA_MEANINGS.items():
            added.add_argument(
                f"--{kind.value}",
                type=_size_quota if kind.is_of_bytes else _count_quota,
                default=NOT_SAID,
                metavar="SIZE" if kind.is_of_bytes else "NUMBER",
                help=f"{meaning}: {'a size such as 100GiB' if kind.is_of_bytes else 'a number'}, unlimited, or default",
            )
    quota = command("quota", _quota_overview, "What users and buckets may have and what they have.")
    quota.add_argument("--all", action="store_true", help="also those that have no quota")
    lifecycle = command(
        "lifecycle", _lifecycle, "Lifecycle rules of buckets: how far they are carried out, and what waits."
    )
    lifecycle.add_argument("bucket", nargs="?", default="")
    alerts = command("alerts", _alerts, "What wants an operator's attention; or close what was dealt with.")
    alerts.add_argument("action", nargs="?", default="list", choices=["list", "close"])
    alerts.add_argument(
        "id", nargs="*", type=_alert_number, metavar="NUMBER", help="as `coldstore alerts` shows it"
    )
    alerts.add_argument("--all", action="store_true", help="closed ones as well")
    add_db(commands, shared)
    audit = command("audit", _audit, "Who did what to what, newest first.")
    audit.add_argument("--limit", type=int, default=50)
    return parser


def _size_quota(text: str) -> int | str | None:
    """Return a quota of bytes as the appliance takes it."""
    if text in ("default", "unlimited"):
        return None if text == "default" else text
    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _count_quota(text: str) -> int | str | None:
    """Return a quota of a number as the appliance takes it."""
    if text in ("default", "unlimited"):
        return None if text == "default" else text
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor unlimited or default")
    return int(text)


def _days(text: str) -> int | None:
    """Return a limit as the appliance takes it."""
    if text == "default":
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of days nor default")
    return int(text)


def _alert_number(text: str) -> int:
    return int(text.removeprefix("#"))


def _print_json(value: object) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2))


def _rows(value: object) -> Rows:
    assert isinstance(value, list), type(value)
    return value


def _row(value: object) -> dict[str, Any]:
    assert isinstance(value, dict), type(value)
    return value


def _show(options: argparse.Namespace, value: object, columns: Sequence[str]) -> None:
    if options.json:
        _print_json(value)
    else:
        print(table(_rows(value), columns))


def _status(client: Client, options: argparse.Namespace) -> int:
    status = _row(client.get("/status"))
    if options.json:
        _print_json(status)
    else:
        print(overview(status, _rows(client.get("/alerts")), _rows(client.get("/drives"))))
    return 0


def _objects(client: Client, options: argparse.Namespace) -> None:
    arguments = {
        "bucket": options.bucket,
        "key": options.key,
        "prefix": options.prefix,
        "limit": str(options.limit),
        "versions": "1" if options.versions else "",
    }
    found = client.get("/objects", **{name: value for name, value in arguments.items() if value})
    if not options.bucket:
        _show(options, found, ["bucket", "owner", "created_at"])
        return
    if options.json:
        _print_json(found)
        return
    rows = [
        {
            **row,
            "copies": _copies_text(row),
            "lock": _lock_text(row["lock"]),
            "restore": (row["restore"] or {}).get("phase"),
            "state": "delete marker" if row["is_delete_marker"] else row["state"],
        }
        for row in _rows(found)
    ]
    of_versions = ["version_id", "is_current"] if options.versions else []
    of_locked = ["lock"] if any(row["lock"] for row in rows) else []
    columns = ["key", *of_versions, "size_bytes", "storage_class", "state", "on_disk", "copies", "restore"]
    print(table(rows, [*columns, *of_locked]))


def _lock_text(lock: Mapping[str, Any] | None) -> str | None:
    if lock is None:
        return None
    retention = f"{lock['mode']} until {lock['retain_until']}" if lock["mode"] else ""
    return ", ".join(filter(None, [retention, "legal hold" if lock["legal_hold"] else ""])) or None


def _lifecycle(client: Client, options: argparse.Namespace) -> None:
    found = _row(client.get("/lifecycle", **({"bucket": options.bucket} if options.bucket else {})))
    if options.json:
        _print_json(found)
        return
    columns = ["bucket", "rule", "action", "of", "when", "prefix", "due_up_to", "gone_through_up_to", "state"]
    print(table(_rows(found["ranges"]), columns))
    if found["waiting"]:
        print("\nLooked at again later:")
        print(table(_rows(found["waiting"]), ["bucket", "reason", "versions", "first_looked_at"]))
    if found["behind_since"]:
        print(f"\nBehind since {found['behind_since']}.")


def _copies_text(row: Mapping[str, Any]) -> str:
    verified = [copy for copy in row["copies"] if copy["state"] == "verified"]
    places = sorted({f"{copy['barcode']}({copy['pool']})" for copy in verified})
    by_bundle: dict[str, int] = {copy["bundle"]: 0 for copy in row["copies"]}
    for copy in verified:
        by_bundle[copy["bundle"]] += 1
    return f"{min(by_bundle.values(), default=0)}/{row['copies_wanted']} {' '.join(places)}".strip()


def _cartridges(client: Client, options: argparse.Namespace) -> int:
    columns = [
        "barcode",
        "state",
        "pool",
        "is_present",
        "home_slot",
        "written_bytes",
        "free_bytes",
        "loads",
        "reason",
    ]
    if options.action == "list":
        _show(options, client.get("/cartridges"), columns)
        return 0
    if options.action == "admit":
        if bool(options.barcodes) == options.all:
            print("coldstore: name the barcodes to admit, or say --all", file=sys.stderr)
            return 2
        order = {
            "by": account_name(),
            "pool": options.pool,
            "barcodes": None if options.all else options.barcodes,
        }
        _show(options, client.post("/cartridges/admit", order), columns)
        return 0
    if not options.barcodes:
        print(f"coldstore: name the barcodes to {options.action}", file=sys.stderr)
        return 2
    changed = [
        client.post(
            "/cartridges/change",
            {"by": account_name(), "barcode": barcode, "action": options.action, "reason": options.reason},
        )
        for barcode in options.barcodes
    ]
    _show(options, changed, columns)
    return 0


def _drives(client: Client, options: argparse.Namespace) -> int:
    if options.action != "list":
        if options.drive is None:
            print("coldstore: name the drive's number", file=sys.stderr)
            return 2
        order = {
            "by": account_name(),
            "drive": options.drive,
            "state": options.action,
            "reason": options.reason,
        }
        client.post("/drives/change", order)
    found = client.get("/drives")
    if options.json:
        _print_json(found)
    else:
        print(_drive_table(_rows(found)))
    return 0


def _drive_table(rows: Rows) -> str:
    shown = [{**row, "progress": _progress(row)} for row in rows]
    return table(
        shown, ["drive", "state", "barcode", "is_mounted", "job", "step", "detail", "progress", "reason"]
    )


def _progress(row: Mapping[str, Any]) -> str:
    if not row["total_bytes"]:
        return ""
    return f"{100 * row['done_bytes'] // row['total_bytes']} % of {size(row['total_bytes'])}"


def _jobs(client: Client, options: argparse.Namespace) -> None:
    found = _row(client.get("/jobs"))
    if options.json:
        _print_json(found)
        return
    bundles = [
        {**row, "copies": " ".join(f"{copy['pool']}:{copy['state']}" for copy in row["copies"])}
        for row in _rows(found["bundles"])
    ]
    print("Bundles\n" + table(bundles, ["bundle", "state", "members", "size_bytes", "copies", "created_at"]))
    print(
        "\nRestores\n"
        + table(_rows(found["restores"]), ["bucket", "key", "size_bytes", "tier", "days", "requested_at"])
    )
    print("\nDrives\n" + _drive_table(_rows(found["drives"])))


def _wait(client: Client, options: argparse.Namespace) -> int:
    if options.restored and not options.key:
        print("coldstore: --restored needs BUCKET and KEY", file=sys.stderr)
        return 2
    started = time.monotonic()
    while True:
        left = _waits_for(client, options)
        if not left:
            if options.json:
                _print_json({"done": True})
            return 0
        if options.timeout and time.monotonic() - started >= options.timeout:
            print(f"coldstore: still waiting for {left}", file=sys.stderr)
            return 3
        time.sleep(POLL_SECONDS)


def _waits_for(client: Client, options: argparse.Namespace) -> str:
    """Return what is not done yet, in words; empty when everything is."""
    if options.key:
        (found,) = _rows(client.get("/objects", bucket=options.bucket, key=options.key))
        name = f"{options.bucket}/{options.key}"
        if options.restored:
            phase = (found["restore"] or {}).get("phase")
            if phase is None:
                raise Refused(f"no restore of {name} was asked for, or it failed")
            return "" if phase == "restored" else f"the restore of {name}"
        return "" if found["state"] in ("archived", "not-wanted") else f"the tape copies of {name}"
    if options.bucket:
        return _unarchived(client, options.bucket)
    status = _row(client.get("/status"))
    objects, restores = status["not_yet_on_every_tape_objects"], status["ongoing_restores"]
    return "" if not objects and not restores else f"{objects} objects and {restores} restores"


def _unarchived(client: Client, bucket: str) -> str:
    after = ""
    while True:
        arguments = {"bucket": bucket, "limit": "1000"} | ({"after": after} if after else {})
        rows = _rows(client.get("/objects", **arguments))
        for row in rows:
            if row["state"] not in ("archived", "not-wanted"):
                return f"the tape copies of {bucket}/{row['key']}"
        if len(rows) < 1000:
            return ""
        after = rows[-1]["key"]


def _archive(client: Client, options: argparse.Namespace) -> None:
    answer = client.post("/archive")
    if options.json:
        _print_json(answer)
    else:
        print("Bundles are made of everything that waits; `coldstore jobs` shows them.")


def _drain(client: Client, options: argparse.Namespace) -> int:
    client.post("/drain", {"on": True})
    started = time.monotonic()
    while True:
        rows = _rows(client.get("/drives"))
        left = [
            f"drive {row['drive']} ({row['barcode'] or row['job']})"
            for row in rows
            if row["state"] == "up" and (row["barcode"] or row["job"] != "idle")
        ]
        if not left:
            break
        if options.timeout and time.monotonic() - started >= options.timeout:
            print(f"coldstore: not empty yet: {', '.join(left)}", file=sys.stderr)
            return 3
        time.sleep(POLL_SECONDS)
    kept = [f"{row['barcode']} in drive {row['drive']}" for row in rows if row["barcode"]]
    if options.json:
        _print_json({"drained": True})
    else:
        where = (
            f"Left where they are, for the drives are down: {', '.join(kept)}."
            if kept
            else "Every drive is empty."
        )
        print(f"{where} `coldstore resume` lets the drives work again.")
    return 0


def _resume(client: Client, options: argparse.Namespace) -> None:
    answer = client.post("/drain", {"on": False})
    if options.json:
        _print_json(answer)
    else:
        print("The drives take work again.")


def _inventory(client: Client, options: argparse.Namespace) -> None:
    _show(options, client.post("/inventory"), ["barcode", "state", "pool", "is_present", "home_slot"])


QUOTA_COLUMNS = ("staging_used_bytes", "staging_quota")
USER_COLUMNS = ("name", "state", "keys", "user_id", *QUOTA_COLUMNS, "created_at")


def _said_quotas(options: argparse.Namespace) -> dict[QuotaKind, Any]:
    said = {kind: getattr(options, kind.value) for kind in QuotaKind}
    return {kind: quota for kind, quota in said.items() if quota is not NOT_SAID}


def _is_quota_misplaced(options: argparse.Namespace) -> bool:
    """Tell, also the operator, that a quota was given to an action that would not set it."""
    said = _said_quotas(options)
    is_misplaced = bool(said) and options.action != "quota"
    if is_misplaced:
        print(f"coldstore: --{next(iter(said))} goes with quota, not with {options.action}", file=sys.stderr)
    return is_misplaced


def _user(client: Client, options: argparse.Namespace) -> int:
    if _is_quota_misplaced(options):
        return 2
    if options.action == "policy":
        return user_policy(client, options)
    if has_words(options):
        print(f"coldstore: what a user may do goes with policy, not with {options.action}", file=sys.stderr)
        return 2
    if options.action == "list":
        users = _rows(client.get("/users"))
        _show(options, users if options.json else [_user_shown(row) for row in users], USER_COLUMNS)
        return 0
    if not options.name:
        print("coldstore: name the user", file=sys.stderr)
        return 2
    if options.action == "quota":
        return _set_quota(client, options, "/users/quota")
    if options.action != "create":
        changed = _row(
            client.post(
                "/users/change", {"by": account_name(), "name": options.name, "action": options.action}
            )
        )
        if options.json:
            _print_json(changed)
        elif options.action == "delete":
            print(f"{options.name} is deleted, with all access keys.")
        else:
            print(table([_user_shown(changed)], USER_COLUMNS))
        return 0
    _show_new_key(client.post("/users", {"by": account_name(), "name": options.name}), options)
    return 0


def _user_shown(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "keys": len(row["access_keys"])}


def _show_new_key(answer: object, options: argparse.Namespace) -> None:
    made = _row(answer)
    if options.json:
        _print_json(made)
    else:
        print(page(made))
        print("The secret key is shown this once.")


def _keys(client: Client, options: argparse.Namespace) -> int:
    columns = ["user", "access_key", "state", "created_at", "last_used_at"]
    action, subject = options.action, options.subject
    if action in OF_DATA_KEYS:
        return carry_out(client, options)
    if options.passphrase:
        print("coldstore: --passphrase goes with export", file=sys.stderr)
        return 2
    if action == "list":
        _show(options, client.get("/keys", **({"user": subject} if subject else {})), columns)
        return 0
    if action == "rotate-master":
        if subject:
            print("coldstore: there is one master key: name nothing", file=sys.stderr)
            return 2
        return _rotate_master(client, options)
    if not subject:
        print(f"coldstore: name the {'user' if action == 'create' else 'access key'}", file=sys.stderr)
        return 2
    if action == "create":
        _show_new_key(client.post("/keys", {"by": account_name(), "user": subject}), options)
        return 0
    changed = _row(
        client.post("/keys/change", {"by": account_name(), "access_key": subject, "action": action})
    )
    if action == "delete" and not options.json:
        print(f"{subject} of {changed['user']} is deleted.")
    else:
        _show(options, [changed], columns)
    return 0


def _rotate_master(client: Client, options: argparse.Namespace) -> int:
    changed = _row(client.post("/keys/rotate-master", {"by": account_name()}))
    if options.json:
        _print_json(changed)
    else:
        print(
            f"{changed['secrets']} secrets are encrypted under master key {changed['master_key']} now. Keep a copy of"
            f" {changed['key_file']}; the one before, {changed['kept_before']}, is needed for as long as there are dumps from before."
        )
    return 0


def _reload(client: Client, options: argparse.Namespace) -> None:
    answer = _row(client.post("/reload", {"by": account_name()}))
    if options.json:
        _print_json(answer)
    else:
        print("\n".join(answer["reloaded"]) or "The S3 endpoint has no certificate.")


def _bucket(client: Client, options: argparse.Namespace) -> int:
    columns = ["bucket", "owner", "default_class", "restore_days_max", *QUOTA_COLUMNS, "created_at"]
    if _is_quota_misplaced(options):
        return 2
    if options.most is not NOT_SAID and options.action != "restore-days":
        print(f"coldstore: --most goes with restore-days, not with {options.action}", file=sys.stderr)
        return 2
    if options.action == "list":
        rows: Rows = []
        while page_of := _rows(client.get("/buckets", **({"after": rows[-1]["bucket"]} if rows else {}))):
            rows += page_of
        _show(options, rows, columns)
        return 0
    if not options.name:
        print("coldstore: name the bucket", file=sys.stderr)
        return 2
    if options.action == "restore-days":
        if options.most is NOT_SAID:
            print("coldstore: say how many, such as --most 30", file=sys.stderr)
            return 2
        order = {"by": account_name(), "name": options.name, "days_max": options.most}
        _show(options, [client.post("/buckets/restore-days", order)], columns)
        return 0
    return _set_quota(client, options, "/buckets/quota")


def _set_quota(client: Client, options: argparse.Namespace, order: str) -> int:
    said = _said_quotas(options)
    if not said:
        print(
            "coldstore: say how much, such as --kept 10TiB; `coldstore quota` shows what there is",
            file=sys.stderr,
        )
        return 2
    quotas = {quota_field(kind): quota for kind, quota in said.items()}
    changed = _row(client.post(order, {"by": account_name(), "name": options.name, **quotas}))
    if options.json:
        _print_json([changed])
    else:
        print(quota_page(changed))
    return 0


def _quota_overview(client: Client, options: argparse.Namespace) -> None:
    answer = _row(client.get("/quotas", **({"all": "1"} if options.all else {})))
    if options.json:
        _print_json(answer)
        return
    print(quota_table(answer["standings"]))
    if answer["left_out"]:
        print(f"{answer['left_out']} more are not shown.")


def _alerts(client: Client, options: argparse.Namespace) -> int:
    if options.action == "close":
        if not options.id:
            print("coldstore: name the numbers of the alerts to close", file=sys.stderr)
            return 2
        shown = [
            _row(client.post("/alerts/close", {"by": account_name(), "id": number})) for number in options.id
        ]
    else:
        shown = _rows(client.get("/alerts", **({"all": "1"} if options.all else {})))
    if options.json:
        _print_json(shown)
    else:
        print("\n".join(alert_text(alert) for alert in shown) or "No alert is open.")
    return 0


def _audit(client: Client, options: argparse.Namespace) -> None:
    _show(options, client.get("/audit", limit=str(options.limit)), ["at", "who", "what", "subject", "detail"])


if __name__ == "__main__":
    sys.exit(main())
