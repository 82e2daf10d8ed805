"""An appliance, clients that send it one case after the other, and eyes on its log and its memory."""

import ssl
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from tests.endtoend.appliance import BUSY, Appliance
from tests.fuzzing.case import Case, Ending
from tests.fuzzing.client import Exchange, exchange
from tests.fuzzing.findings import Finding, Findings
from tests.fuzzing.ground import Ground, changes, keys_of_another, lay_for_another
from tests.fuzzing.judge import are_refusals, complaints, parted, traces
from tests.fuzzing.mutations import case_of
from tests.fuzzing.wire import message, pieces

CLIENTS = 24
IDLE_SECONDS = 3
"""How long the appliance waits for a client whose turn it is; it lets go of one that does not read after some seconds more."""
BOUND_SECONDS = BUSY * (IDLE_SECONDS + 6.0)
DOUBTFUL_SECONDS = 5.0
"""How long after it was sent a request whose client did not hear of it may change something: no picture from before counts."""
RENEWED_AFTER = 500
"""So many cases on one ground, at most."""
REMEMBERED = 1000
"""Cases that a trace in the log can be traced to."""
WARM_CASES = 400
GROWTH_LIMIT_BYTES = 96 << 20
"""How much more memory the appliance may have at the end than once it had got going."""
PEAK_LIMIT_BYTES = 400 << 20
SETTINGS: Mapping[str, Any] = {
    "server": {"idle_timeout": f"{IDLE_SECONDS}s"},
    "staging": {"capacity": "6GiB", "min_free": "64MiB"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One case as it went out."""

    number: int
    case: Case
    sent: bytes


class Campaign:
    """
    One run.

    :ivar counts: of what was answered, by status
    """

    def __init__(
        self,
        appliance: Appliance,
        *,
        seed: int,
        findings: Findings,
        say: Callable[[str], None],
        context: ssl.SSLContext | None = None,
    ) -> None:
        """:param appliance: is running, with ``SETTINGS``"""
        self._appliance = appliance
        self._seed = seed
        self._findings = findings
        self._say = say
        self._context = context
        self._numbers = count()
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._recent: OrderedDict[str, Sent] = OrderedDict()
        self._log_rest = ""
        self.counts: Counter[str] = Counter()
        self.cases = 0
        lay_for_another(appliance, context)
        self._of_another = keys_of_another(appliance, context)

    def run(self, seconds: float) -> None:
        """Send cases for so long, and look at what is left when they have ended."""
        clients = [
            threading.Thread(target=self._client, args=(number % 2 == 0,), daemon=True)
            for number in range(CLIENTS)
        ]
        end = time.monotonic() + seconds
        resident_bytes = 0
        for client in clients:
            client.start()
        while time.monotonic() < end and any(client.is_alive() for client in clients):
            time.sleep(0.5)
            self._read_log()
            if not resident_bytes and self.cases >= WARM_CASES:
                resident_bytes = self._memory("VmRSS")
            if self._appliance.process is None or self._appliance.process.poll() is not None:
                self._found(None, ["the appliance has ended"])
                break
        self._stopping.set()
        for client in clients:
            client.join(2 * BOUND_SECONDS)
            if client.is_alive():
                self._found(None, ["a client of the test hangs"])
        self._read_log(is_last=True)
        if self._appliance.process is not None and self._appliance.process.poll() is None:
            self._look_at_end(resident_bytes or self._memory("VmRSS"))

    def play(self, case: Case, ground: Ground, number: int = -1) -> tuple[Exchange, list[str]]:
        """Send one case to its end; return what came, and what is wrong with that alone."""
        sent = message(case, ground.facts, ground.signer())
        seen = exchange(
            ground.address,
            pieces(sent, case.delivery),
            answers=len(case.asked),
            ending=case.delivery.ending,
            pause_seconds=case.delivery.pause_seconds,
            bound_seconds=BOUND_SECONDS,
            context=self._context,
        )
        told = Sent(number=number, case=case, sent=sent)
        with self._lock:
            self.cases += 1
            self.counts.update(str(answer.status) for answer in seen.answers)
            if not seen.answers:
                self.counts["left" if seen.went_early else "closed"] += 1
            for answer in seen.answers:
                self._recent[answer.headers.get("x-amz-request-id", "")] = told
            while len(self._recent) > REMEMBERED:
                self._recent.popitem(last=False)
        wrong = complaints(seen)
        if wrong:
            self._found(told, wrong)
        return seen, wrong

    def _client(self, is_patient: bool) -> None:
        try:
            self._go_on(is_patient)
        except Exception as error:  # noqa: BLE001 - a thread's end must not go unseen
            if self._appliance.process is not None and self._appliance.process.poll() is None:
                self._found(None, [f"a valid request failed: {error!r}"])

    def _go_on(self, is_patient: bool) -> None:
        """
        Send one case after the other.

        :param is_patient: never leave before the answer, so that it is always known what was refused
        """
        ground = Ground(self._appliance, self._context, BOUND_SECONDS)
        before, on_it, looked_at, certain_at = ground.picture(), 0, time.monotonic(), 0.0
        while not self._stopping.is_set():
            number = next(self._numbers)
            case = case_of(self._seed, number)
            if is_patient:
                case = replace(case, delivery=replace(case.delivery, sent=1.0, ending=Ending.WAITS))
            seen, _ = self.play(case, ground, number)
            is_unheard = case.delivery.sent < 1 or 0 < len(seen.answers) < len(case.asked)
            if is_unheard or seen.went_early or seen.is_late:
                certain_at = time.monotonic() + DOUBTFUL_SECONDS
            is_certain = looked_at > certain_at
            looked_at, after = time.monotonic(), ground.picture()
            if is_certain and are_refusals(seen, case) and after != before:
                sent = message(case, ground.facts, ground.signer())
                self._found(
                    Sent(number=number, case=case, sent=sent),
                    [f"refused, and has changed something: {'; '.join(changes(before, after))}"],
                )
            before, on_it = after, on_it + 1
            if ground.is_worn(after) or on_it >= RENEWED_AFTER:
                ground.lay()
                before, on_it, looked_at, certain_at = ground.picture(), 0, time.monotonic(), 0.0

    def _found(self, sent: Sent | None, wrong: list[str]) -> None:
        case = Case(asked=()) if sent is None else sent.case
        if sent is None:
            self._findings.counts[wrong[0]] += 1
            self._say(f"FOUND: {'; '.join(wrong)}")
            return
        finding = Finding(
            seed=self._seed, number=sent.number, case=case, sent=sent.sent, complaints=tuple(wrong)
        )
        path = self._findings.add(finding)
        if path is not None:
            self._say(
                f"FOUND, seed {self._seed}, case {sent.number}, {case.asked[0].operation}: {'; '.join(wrong)}"
            )
            self._say(f"  sent: {sent.sent[:1500]!r}")
            self._say(f"  tests/fuzz --replay {path}")

    # -- eyes --------------------------------------------------------------------------------------------------------

    def _read_log(self, *, is_last: bool = False) -> None:
        """Look at what was logged; the latest event may not be there to its end."""
        whole, self._log_rest = parted(self._log_rest + self._appliance.new_log())
        for trace in traces(whole + self._log_rest if is_last else whole):
            with self._lock:
                told = next((sent for name, sent in self._recent.items() if name and name in trace), None)
            end = trace.splitlines()[-1]
            self._found(told, [f"in the log: {end}", trace[-4000:]])

    def _memory(self, name: str) -> int:
        assert self._appliance.process is not None
        status = Path(f"/proc/{self._appliance.process.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith(f"{name}:"))
        return int(line.split()[1]) * 1024

    def _look_at_end(self, resident_bytes: int) -> None:
        now, peak = self._memory("VmRSS"), self._memory("VmHWM")
        self._say(
            f"{resident_bytes >> 20} MiB resident at the beginning, {now >> 20} at the end, {peak >> 20} at most"
        )
        if now - resident_bytes > GROWTH_LIMIT_BYTES:
            self._found(None, [f"memory has grown by more than {GROWTH_LIMIT_BYTES >> 20} MiB"])
        if peak > PEAK_LIMIT_BYTES:
            self._found(None, [f"more than {PEAK_LIMIT_BYTES >> 20} MiB of memory were in use"])
        if keys_of_another(self._appliance, self._context) != self._of_another:
            self._found(None, ["the bucket of another user has changed"])
