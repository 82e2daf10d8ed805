"""``coldstore policy`` and ``coldstore user policy``: what users may do, and why."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from coldstore.admin.client import Client, Refused
from coldstore.util.accounts import account_name
from coldstore.util.tables import page, table

DENIED = 4
"""Exit status of ``coldstore policy explain`` for what is denied."""
WORDS = ("read_only", "may_restore", "no_delete", "bucket", "prefix", "document", "policy")

AddCommand = Callable[[str, Callable[[Client, argparse.Namespace], int | None], str], argparse.ArgumentParser]


def add_policy(command: AddCommand) -> None:
    """Add ``coldstore policy``."""
    parser = command(
        "policy", _policy, "Say whether a user may do something, and why; or show a bucket's policy."
    )
    parser.add_argument("action", choices=["explain", "show"])
    parser.add_argument(
        "subject",
        nargs="+",
        metavar="USER ACTION RESOURCE | BUCKET",
        help="explain: a user ('*': who does not sign), an action as policies name it, and a bucket, BUCKET/KEY or ARN; show: a bucket",
    )
    parser.add_argument("--ip", default="", metavar="ADDRESS", help="where the request comes from")
    parser.add_argument("--secure", action="store_true", help="by TLS")
    parser.add_argument(
        "--given",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="what the request has under a condition key, such as s3:prefix=photos/",
    )


def add_user_policy(user: argparse.ArgumentParser) -> None:
    """Add to ``coldstore user`` what its action ``policy`` takes."""
    user.add_argument(
        "subject", nargs="?", default="", metavar="USER", help="policy set, show and remove: whose"
    )
    user.add_argument(
        "--policy", default="", metavar="NAME", help="the policy's name (default: made of its words)"
    )
    user.add_argument("--read-only", action="store_true", help="may read and list, and nothing else")
    user.add_argument("--may-restore", action="store_true", help="may restore as well; alone: nothing else")
    user.add_argument("--no-delete", action="store_true", help="may delete nothing, nor have it deleted")
    user.add_argument(
        "--bucket", action="append", default=[], metavar="BUCKET", help="may use this bucket, and no other"
    )
    user.add_argument(
        "--prefix",
        action="append",
        default=[],
        metavar="BUCKET/PREFIX",
        help="may use what is below this prefix, and nothing else",
    )
    user.add_argument("--document", default="", metavar="FILE", help="a policy in JSON, as IAM has it")


def has_words(options: argparse.Namespace) -> bool:
    """Tell whether anything was said that only ``coldstore user policy`` takes."""
    return bool(options.subject) or any(getattr(options, word) for word in WORDS)


def user_policy(client: Client, options: argparse.Namespace) -> int:
    """Carry out ``coldstore user policy set|show|remove USER``."""
    action, name = options.name, options.subject
    if action not in ("set", "show", "remove") or not name:
        print(
            "coldstore: say what to do and whose: coldstore user policy set|show|remove USER", file=sys.stderr
        )
        return 2
    if action == "show":
        return _shown(options, client.get("/users/policies", user=name))
    if action == "remove":
        if not options.policy:
            print("coldstore: say which with --policy NAME; show lists them", file=sys.stderr)
            return 2
        order = {"by": account_name(), "user": name, "policy": options.policy}
        return _shown(options, client.post("/users/policies/remove", order))
    words = _words(options)
    if bool(words) is bool(options.document):
        print("coldstore: say what the user may do, in words or by --document FILE", file=sys.stderr)
        return 2
    order = {
        "by": account_name(),
        "user": name,
        "policy": options.policy or words or Path(options.document).stem,
    }
    if options.document:
        order["document"] = _read(options.document)
    else:
        order |= {
            "buckets": options.bucket,
            "prefixes": options.prefix,
            "read_only": options.read_only,
            "may_restore": options.may_restore,
            "no_delete": options.no_delete,
        }
    return _shown(options, client.post("/users/policies", order))


def _words(options: argparse.Namespace) -> str:
    """Return the words in which it was said what a user may do."""
    switches = [
        word for word in ("read-only", "may-restore", "no-delete") if getattr(options, word.replace("-", "_"))
    ]
    return " ".join([*switches, *options.bucket, *options.prefix])


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"{path} cannot be read: {error}") from error


def _shown(options: argparse.Namespace, answer: object) -> int:
    assert isinstance(answer, list), type(answer)
    if options.json:
        print(json.dumps(answer, ensure_ascii=False, indent=2))
    elif answer:
        print("\n".join(f"{row['policy']}\n{_indented(row['document'])}" for row in answer))
    else:
        print("There is no policy: the user may do everything in buckets of his own, and make some.")
    return 0


def _indented(document: str) -> str:
    return json.dumps(json.loads(document), ensure_ascii=False, indent=2)


def _policy(client: Client, options: argparse.Namespace) -> int:
    if options.action == "show":
        return _show_bucket(client, options)
    if len(options.subject) != 3:
        print(
            "coldstore: say who, what and on what: coldstore policy explain USER ACTION RESOURCE",
            file=sys.stderr,
        )
        return 2
    user, action, resource = options.subject
    arguments: dict[str, Any] = {"user": user, "action": action, "resource": resource, "ip": options.ip}
    if options.secure:
        arguments["secure"] = "1"
    if options.given:
        arguments["given"] = options.given
    found = _row(client.get("/policy/explain", **arguments))
    if options.json:
        print(json.dumps(found, ensure_ascii=False, indent=2))
    else:
        print(f"{found['decision']}: {found['reason']}\n")
        print(f"{found['action']} on {found['resource']} by {found['user']}")
        if found["considered"]:
            print(table(found["considered"], ["source", "title", "effect", "applies"]))
        else:
            print("There is no policy, neither of the user nor of the bucket.")
    return 0 if found["decision"] == "allow" else DENIED


def _show_bucket(client: Client, options: argparse.Namespace) -> int:
    if len(options.subject) != 1:
        print("coldstore: name one bucket", file=sys.stderr)
        return 2
    found = _row(client.get("/policy", bucket=options.subject[0]))
    if options.json:
        print(json.dumps(found, ensure_ascii=False, indent=2))
        return 0
    blocked = [name for name, is_on in found["public_access_block"].items() if is_on]
    shown = {
        **found,
        "public_access_block": ", ".join(blocked) or "nothing",
        "is_public": "yes" if found["is_public"] else "no",
    }
    policy = shown.pop("policy")
    print(page(shown))
    print(f"\n{policy}" if policy is not None else "\nThe bucket has no policy.")
    return 0


def _row(value: object) -> dict[str, Any]:
    assert isinstance(value, dict), type(value)
    return value
