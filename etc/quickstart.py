"""The quick start: ``etc/quickstart`` runs this in the Python environment that it made."""

import argparse
import hashlib
import json
import os
import random
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

from coldstore.admin.client import Client, NotRunning
from coldstore.util.tables import size, table

CHECKOUT = Path(__file__).resolve().parent.parent
BUCKET = "quickstart"
LARGE_BYTES = 256 * 1024**2
START_SECONDS = 60.0
DRAIN_SECONDS = 60.0
SOCKET_PATH_MAX = 100

CONFIGURATION = """\
# Written by etc/quickstart; edit it as you like, the next run keeps it. etc/coldstore.yaml explains every setting.
state_directory: {state}
admin:
  socket: {socket}
staging:
  capacity: 16GiB
  min_free: 256MiB
archive:
  bundle_size: 256MiB
  trigger:          # a demonstration does not wait for hours
    age: 3s
    idle_age: 3s
recall:
  tiers:
    standard: {{hold: 0s, target: 5h}}
    bulk: {{hold: 2s, target: 12h}}
mount:
  idle_unload: 30s
tape:
  library: virtual
  virtual:
    drives: 2
    slots: 16
    mail_slots: 1
    cartridges: 8
    capacity: 4GiB
"""


def main() -> int:
    """Run; return the exit status."""
    options = _options()
    state = options.state.resolve()
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    appliance = Appliance(state, options.port)
    # Also where a shell started us in the background with SIGINT ignored (POSIX shells do).
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        appliance.start()
        if options.serve:
            return serve(appliance)
        return demonstrate(appliance)
    except KeyboardInterrupt:
        print("\nInterrupted. The next start takes up what was under way.")
        return 130
    except Trouble as trouble:
        print(f"quickstart: {trouble}", file=sys.stderr)
        return 1
    finally:
        appliance.stop()


def _options() -> argparse.Namespace:
    home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    parser = argparse.ArgumentParser(
        prog="etc/quickstart",
        description="Run ColdStore on its embedded defaults: SQLite, and a virtual tape library of 2 drives and 8 cartridges.",
    )
    parser.add_argument(
        "--serve", action="store_true", help="leave the appliance running in the foreground; no demonstration"
    )
    parser.add_argument(
        "--state",
        type=Path,
        default=Path(home) / "coldstore-quickstart",
        metavar="DIR",
        help="where everything is kept (default: %(default)s)",
    )
    parser.add_argument(
        "--port",
        type=int,
        default=None,
        metavar="N",
        help="port of S3 on 127.0.0.1 (default: 8420, or a free one for the demonstration)",
    )
    return parser.parse_args()


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


class Trouble(Exception):
    """What keeps the quick start from going on, in a sentence."""


class Appliance:
    """A ``twistd coldstore`` process, its configuration, and the keys of its two users."""

    def __init__(self, state: Path, port: int | None) -> None:
        self.state = state
        self.log = state / "coldstore.log"
        self.port = port if port is not None else _free_port(8420)
        self.operator_port = _free_port(self.port + 1)
        path = str(state / "admin.sock")
        if len(path) > SOCKET_PATH_MAX:
            digest = hashlib.sha256(path.encode()).hexdigest()[:16]
            path = f"/tmp/coldstore-{os.getuid()}-{digest}.sock"
        self.socket = path
        self.client = Client(path)
        self.keys: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it serves."""
        configuration = self.state / "coldstore.yaml"
        if not configuration.exists():
            configuration.write_text(
                CONFIGURATION.format(state=json.dumps(str(self.state)), socket=json.dumps(self.socket))
            )
        environment = {
            **os.environ,
            "COLDSTORE_SERVER_PORT": str(self.port),
            "COLDSTORE_OPERATOR_PORT": str(self.operator_port),
        }
        self._upgrade(configuration, environment)
        twistd = Path(sys.executable).with_name("twistd")
        command = [str(twistd), "--nodaemon", "--pidfile=", "coldstore", "--config", str(configuration)]
        with self.log.open("ab") as log:
            # Its own session: Ctrl-C reaches us alone, and we stop it in good order.
            self._process = subprocess.Popen(
                command,
                cwd=self.state,
                env=environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._wait_until_serving(self._process)
        self._make_users()
        self._write_client_environment()

    def _upgrade(self, configuration: Path, environment: Mapping[str, str]) -> None:
        """
        Bring what an earlier release has left up to date; it is dumped first.

        :raise NotRunning: it cannot be
        """
        if not (self.state / "metadata.sqlite").exists():
            return
        command = [
            sys.executable,
            "-m",
            "coldstore.admin.main",
            "db",
            "upgrade",
            "--config",
            str(configuration),
        ]
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        if done.returncode:
            raise NotRunning(done.stderr.strip())

    def _wait_until_serving(self, process: "subprocess.Popen[bytes]") -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if process.poll() is not None:
                tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
                raise Trouble(f"the appliance did not start; the end of {self.log}:\n{tail}")
            try:
                if _mapping(self.client.get("/status"))["is_serving"]:
                    return
            except NotRunning:
                pass
            time.sleep(0.1)
        raise Trouble(f"the appliance does not serve after {START_SECONDS:.0f} s; see {self.log}")

    def _make_users(self) -> None:
        kept = self.state / "users.json"
        known = {key["access_key"] for key in _list(self.client.get("/keys"))}
        users = json.loads(kept.read_text()) if kept.exists() else {}
        for name in ("quickstart", "alt"):
            if name not in users or users[name]["access_key"] not in known:
                users[name] = _mapping(self.client.post("/users", {"name": name}))
                _write_private(kept, json.dumps(users))
        self.keys = {
            "AWS_ACCESS_KEY_ID": users["quickstart"]["access_key"],
            "AWS_SECRET_ACCESS_KEY": users["quickstart"]["secret_key"],
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_DEFAULT_REGION": "us-east-1",
            "ALT_ACCESS_KEY_ID": users["alt"]["access_key"],
            "ALT_SECRET_ACCESS_KEY": users["alt"]["secret_key"],
        }

    def _write_client_environment(self) -> None:
        lines = [f"export {name}={shlex.quote(value)}" for name, value in self.keys.items()]
        lines.append(f"export COLDSTORE_ADMIN_SOCKET={shlex.quote(self.socket)}")
        _write_private(self.state / "client.env", "\n".join(lines) + "\n")
        command = self.state / "bin" / "coldstore"
        command.parent.mkdir(exist_ok=True)
        command.write_text(
            "#!/bin/sh\n"
            f"COLDSTORE_ADMIN_SOCKET=${{COLDSTORE_ADMIN_SOCKET:-{shlex.quote(self.socket)}}} "
            f"PYTHONPATH={shlex.quote(str(CHECKOUT))} "
            f'exec {shlex.quote(sys.executable)} -m coldstore.admin.main "$@"\n'
        )
        command.chmod(0o755)

    def remarks(self) -> Sequence[str]:
        """Return what it has to say of itself, such as that there is no FUSE here."""
        problems: Sequence[str] = _mapping(self.client.get("/status"))["problems"]
        return [text for text in problems if "reconciled" not in text]

    def s3(self) -> Any:
        """Return a boto3 client with the first user's keys."""
        return boto3.client(
            "s3",
            endpoint_url=self.keys["AWS_ENDPOINT_URL"],
            aws_access_key_id=self.keys["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.keys["AWS_SECRET_ACCESS_KEY"],
            region_name=self.keys["AWS_DEFAULT_REGION"],
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 5}),
        )

    def wait(self) -> int:
        """Wait until it ends."""
        assert self._process is not None
        return self._process.wait()

    def stop(self) -> None:
        """Put the cartridges away and end it."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        try:
            self.client.post("/drain", {"on": True})
            deadline = time.monotonic() + DRAIN_SECONDS
            while time.monotonic() < deadline and any(
                row["barcode"] and row["state"] == "up" for row in _list(self.client.get("/drives"))
            ):
                time.sleep(0.2)
        except (NotRunning, OSError, KeyboardInterrupt):
            pass
        process.terminate()
        try:
            process.wait(30)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            process.kill()
            process.wait()


def serve(appliance: Appliance) -> int:
    """Leave it running."""
    for remark in appliance.remarks():
        print(f"Note: {remark}.")
    environment = appliance.state / "client.env"
    endpoint = appliance.keys["AWS_ENDPOINT_URL"]
    rclone = (
        f"rclone --s3-provider=Other --s3-env-auth --s3-endpoint={endpoint} "
        "--s3-storage-class=GLACIER copy README.md :s3:demo"
    )
    s3cmd = (
        f"s3cmd --no-ssl --host={endpoint.removeprefix('http://')} --host-bucket= "
        '--access_key="$AWS_ACCESS_KEY_ID" --secret_key="$AWS_SECRET_ACCESS_KEY" ls s3://demo'
    )
    print(
        f"""\
ColdStore serves S3 at {endpoint}; Ctrl-C ends it.
Health and metrics: http://127.0.0.1:{appliance.operator_port}/healthz and /metrics. Log: {appliance.log}

Keys for clients are in {environment}:   . {shlex.quote(str(environment))}
Then try, each as it stands:

  aws s3 mb s3://demo && aws s3 cp README.md s3://demo/ --storage-class GLACIER
  {rclone}
  {s3cmd}

What it does with them:   {shlex.quote(str(appliance.state / "bin" / "coldstore"))} status   (also: jobs, drives, cartridges, objects demo)""",
        flush=True,
    )
    status = appliance.wait()
    print(f"The appliance ended by itself with status {status}; see {appliance.log}", file=sys.stderr)
    return status or 1


# ── the demonstration ───────────────────────────────────────────────────────────────────────────────────────────────


def demonstrate(appliance: Appliance) -> int:
    """Archive and restore a few files."""
    started = time.monotonic()
    say = Teller(started)
    s3 = appliance.s3()
    loads_before = _loads(appliance)
    files = _files(appliance.state / "files")
    run = time.strftime("%Y%m%d-%H%M%S")
    say(f"ColdStore runs at {appliance.keys['AWS_ENDPOINT_URL']}, its state is in {appliance.state}")
    for remark in appliance.remarks():
        say(f"note: {remark}")
    if BUCKET not in {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}:
        s3.create_bucket(Bucket=BUCKET)
        say(f"created the bucket {BUCKET}")
    keys = {path: f"{run}/{path.name}" for path in files}
    for path, key in keys.items():
        s3.upload_file(
            str(path),
            BUCKET,
            key,
            ExtraArgs={"StorageClass": "GLACIER"},
            Config=TransferConfig(multipart_chunksize=16 * 1024**2),
        )
        say(f"uploaded {key} ({size(path.stat().st_size)}) as GLACIER")
    appliance.client.post("/archive")
    watch(appliance, say, lambda: _archived(appliance, keys.values()), "archive")
    for key in keys.values():
        say(f"HEAD {key}: x-coldstore-copies {_copies(s3, key)}")
    for key in keys.values():
        say(f"GET {key}: {_refusal(s3, key)}")
    for key in keys.values():
        s3.restore_object(
            Bucket=BUCKET, Key=key, RestoreRequest={"Days": 1, "GlacierJobParameters": {"Tier": "Expedited"}}
        )
    say(f"asked for the restore of {len(keys)} objects")
    watch(appliance, say, lambda: all(_is_restored(s3, key) for key in keys.values()), "recall")
    back = appliance.state / "restored"
    back.mkdir(exist_ok=True)
    for path, key in keys.items():
        target = back / path.name
        s3.download_file(BUCKET, key, str(target))
        if _sha256(target) != _sha256(path):
            raise Trouble(f"{key} came back different: compare {path} with {target}")
        say(f"downloaded {key}: identical (SHA-256 {_sha256(target)[:16]}…)")
        target.unlink()
    _summary(appliance, keys, run, time.monotonic() - started, _loads(appliance) - loads_before)
    return 0


class Teller:
    """Prints lines with the seconds since the start."""

    def __init__(self, started: float) -> None:
        self._started = started

    def __call__(self, text: str) -> None:
        print(f"[{time.monotonic() - self._started:6.1f} s] {text}", flush=True)


def watch(appliance: Appliance, say: Teller, is_done: Callable[[], bool], what: str) -> None:
    """Tell every new bundle and every new step of every drive until it is done; give up on a critical alert."""
    seen: set[str] = set()
    old = _critical(appliance)
    steps: dict[int, tuple[str, str]] = {}
    while True:
        jobs = _mapping(appliance.client.get("/jobs"))
        for row in _list(jobs["bundles"]):
            if row["state"] == "frozen" and row["bundle"] not in seen:
                seen.add(str(row["bundle"]))
                say(
                    f"packed {row['members']} objects into bundle {row['bundle']} ({size(row['size_bytes'])})"
                )
        for row in _list(jobs["drives"]):
            step = str(row["step"]), str(row["detail"])
            if steps.get(row["drive"]) != step:
                steps[row["drive"]] = step
                amount = f" ({size(row['total_bytes'])})" if row["total_bytes"] else ""
                if row["step"] not in ("", "idle"):
                    say(
                        f"drive {row['drive']}, {row['barcode'] or 'empty'}: {row['step']} {row['detail']}{amount}"
                    )
        if is_done():
            return
        new = _critical(appliance) - old
        if new:
            raise Trouble(f"the {what} cannot go on: {'; '.join(sorted(new))}")
        time.sleep(0.1)


def _critical(appliance: Appliance) -> set[str]:
    """Return the open critical alerts; a reused state may have old ones."""
    return {
        str(row["sentence"])
        for row in _list(appliance.client.get("/alerts"))
        if row["severity"] == "critical"
    }


def _files(folder: Path) -> list[Path]:
    folder.mkdir(exist_ok=True)
    empty, small, large = folder / "empty.bin", folder / "readme.md", folder / "large.bin"
    empty.write_bytes(b"")
    small.write_bytes((CHECKOUT / "README.md").read_bytes())
    if not large.exists() or large.stat().st_size != LARGE_BYTES:
        chance = random.Random(1)
        with large.open("wb") as file:
            for _ in range(LARGE_BYTES // 2**20):
                file.write(chance.randbytes(2**20))
    return [empty, small, large]


def _archived(appliance: Appliance, keys: Iterable[str]) -> bool:
    for key in keys:
        (row,) = _list(appliance.client.get("/objects", bucket=BUCKET, key=key))
        if row["state"] != "archived" or (row["on_disk"] and row["size_bytes"]):
            return False
    return True


def _copies(s3: Any, key: str) -> str:
    headers = s3.head_object(Bucket=BUCKET, Key=key)["ResponseMetadata"]["HTTPHeaders"]
    return str(headers.get("x-coldstore-copies"))


def _refusal(s3: Any, key: str) -> str:
    try:
        s3.get_object(Bucket=BUCKET, Key=key)
    except ClientError as error:
        return f"{error.response['ResponseMetadata']['HTTPStatusCode']} {error.response['Error']['Code']}"
    raise Trouble(f"{key} could be read before it was restored")


def _is_restored(s3: Any, key: str) -> bool:
    return 'ongoing-request="false"' in s3.head_object(Bucket=BUCKET, Key=key).get("Restore", "")


def _summary(appliance: Appliance, keys: Mapping[Path, str], run: str, seconds: float, loads: int) -> None:
    rows = []
    bundles: set[str] = set()
    for path, key in keys.items():
        (found,) = _list(appliance.client.get("/objects", bucket=BUCKET, key=key))
        bundles |= {copy["bundle"] for copy in found["copies"]}
        places = sorted({f"{copy['pool']}: {copy['barcode']}" for copy in found["copies"]})
        rows.append({"object": key, "size_bytes": path.stat().st_size, "copies": ", ".join(places)})
    total = sum(path.stat().st_size for path in keys)
    print(
        f"\nSummary: {len(keys)} objects in {len(bundles)} bundles, {size(total)}, {loads} mounts, {seconds:.0f} seconds\n"
    )
    print(table(rows, ["object", "size_bytes", "copies"]))
    used = [row for row in _list(appliance.client.get("/cartridges")) if row["written_bytes"]]
    print("\n" + table(used, ["barcode", "state", "pool", "written_bytes", "free_bytes", "loads"]))


def _loads(appliance: Appliance) -> int:
    return sum(int(row["loads"]) for row in _list(appliance.client.get("/cartridges")))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _free_port(wanted: int) -> int:
    """Return the wanted port if nobody listens there, else one that the system chooses."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port if port < 65536 else 0))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise Trouble("no free port on 127.0.0.1")


def _write_private(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".new")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    temporary.rename(path)


def _list(value: object) -> Sequence[dict[str, Any]]:
    assert isinstance(value, list), value
    return value


def _mapping(value: object) -> dict[str, Any]:
    assert isinstance(value, dict), value
    return value


if __name__ == "__main__":
    sys.exit(main())
