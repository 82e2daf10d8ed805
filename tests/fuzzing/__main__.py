"""
Requests that are nearly right, sent to a running appliance until the time is over: ``tests/fuzz``.

    tests/fuzz --seconds 60 [--seed N] [--metadata postgresql] [--tls]
    tests/fuzz --replay FILE

Every connection must be answered or closed in time, every error be one of S3's, no refused request change anything, nothing
be in the log that no log should hold, memory stay bounded. What is found is told once for each kind, with a file to repeat it from.
The exit status is 1 when something was found.
"""

import argparse
import os
import ssl
import sys
import time
from pathlib import Path
from random import SystemRandom

from tests.endtoend.appliance import Appliance
from tests.endtoend.databases import KINDS
from tests.fuzzing.campaign import BOUND_SECONDS, SETTINGS, Campaign
from tests.fuzzing.findings import Findings, case_in
from tests.fuzzing.ground import Ground


def say(sentence: str) -> None:
    """Tell whoever watches."""
    print(f"[fuzz] {time.strftime('%H:%M:%S')} {sentence}", flush=True)


def options_of(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="tests/fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (default %(default)g)")
    parser.add_argument("--minutes", type=float, help="the same in minutes")
    parser.add_argument("--seed", type=int, help="repeat the cases of a run")
    parser.add_argument("--metadata", choices=sorted(KINDS), default="sqlite", help="where they are kept")
    parser.add_argument(
        "--tls", action="store_true", help="speak TLS, without which no customer's key is taken"
    )
    parser.add_argument("--replay", type=Path, metavar="FILE", help="repeat one finding")
    parser.add_argument(
        "--keep",
        type=Path,
        default=Path("fuzz-findings"),
        help="where findings are kept (default %(default)s)",
    )
    return parser.parse_args(arguments)


def appliance_of(options: argparse.Namespace) -> tuple[Appliance, ssl.SSLContext | None]:
    """Return an appliance that is not started, and what its clients need to speak TLS."""
    appliance = Appliance(SETTINGS, metadata=KINDS[options.metadata]())
    if not options.tls:
        return appliance, None
    # Not everywhere where an appliance runs is what makes certificates.
    from tests.certificates import Authority

    authority = Authority()
    appliance.use_tls(authority)
    context = ssl.create_default_context(cadata=authority.root.decode())
    context.check_hostname = False
    return appliance, context


def main(arguments: list[str]) -> int:
    """Run the command; return its exit status."""
    options = options_of(arguments)
    seed = SystemRandom().getrandbits(32) if options.seed is None else options.seed
    seconds = options.seconds if options.minutes is None else 60 * options.minutes
    findings = Findings(options.keep)
    appliance, context = appliance_of(options)
    try:
        appliance.start()
        campaign = Campaign(appliance, seed=seed, findings=findings, say=say, context=context)
        if options.replay is not None:
            ground = Ground(appliance, context, BOUND_SECONDS)
            seen, _ = campaign.play(case_in(options.replay), ground)
            for answer in seen.answers:
                say(f"{answer.status} {dict(answer.headers)} {answer.body[:2000]!r}")
            seconds = 0
        else:
            say(f"{seconds:g} seconds, {options.metadata}{', TLS' if options.tls else ''}, seed {seed}")
        campaign.run(seconds)
        if findings.counts:
            options.keep.mkdir(parents=True, exist_ok=True)
            (options.keep / f"{seed}.log").write_text(appliance.log())
    finally:
        appliance.close()
    say(f"{campaign.cases} cases; answers: {dict(sorted(campaign.counts.items()))}")
    for kind, times in findings.counts.most_common():
        say(f"{times} times: {kind}")
    print(f"{int(not findings.counts)} passed, {len(findings.counts)} failed, 0 skipped", flush=True)
    return int(bool(findings.counts))


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main(sys.argv[1:]))
