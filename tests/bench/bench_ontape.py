"""
How long the layout of a bundle takes, against Python's tarfile making headers for the same members.

Run ``python -m tests.bench.bench_ontape [MEMBERS]``. Prints seconds, ratios and the memory that the walk over all
pieces needed at its peak beyond the plan.
"""

import sys
import tarfile
import time
import tracemalloc
from collections.abc import Callable

from coldstore.ontape.bundle import BundlePlan, Literal, layout
from tests.fixtures.make_cartridges import make_member, make_plan


def make_sample(count: int) -> BundlePlan:
    """A plan of ``count`` small members."""
    return make_plan(
        1,
        tuple(
            make_member(b"0123456789", key=b"2024/holiday/IMG_%06d.jpg" % number, number=number)
            for number in range(count)
        ),
    )


def seconds_of(action: Callable[[], object]) -> float:
    """Processor seconds of the best of two runs."""
    times = []
    for _ in range(2):
        started = time.process_time()
        action()
        times.append(time.process_time() - started)
    return min(times)


def tarfile_headers(plan: BundlePlan) -> int:
    """The baseline: the standard library's headers with the same records."""
    total = 0
    for member in plan.members:
        info = tarfile.TarInfo("objects/photos/" + member.facts.key.decode())
        info.size = member.length_bytes
        info.mtime = member.facts.created_at
        info.pax_headers = {"path": info.name, "comment": "x" * 600}
        total += len(info.tobuf(tarfile.PAX_FORMAT))
    return total


def write(plan: BundlePlan) -> int:
    """All pieces, as a mover asks for them."""
    return sum(
        len(piece.data) if isinstance(piece, Literal) else piece.length_bytes
        for piece in layout(plan).pieces()
    )


def measure(count: int) -> dict[str, float]:
    """Seconds of baseline, layout, and layout with all pieces; ratios; peak memory in MB."""
    plan = make_sample(count)
    baseline = seconds_of(lambda: tarfile_headers(plan))
    measuring = seconds_of(lambda: layout(plan))
    writing = seconds_of(lambda: write(plan))
    tracemalloc.start()
    small = make_sample(min(count, 10_000))
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    write(small)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {
        "members": count,
        "tarfile_seconds": baseline,
        "layout_seconds": measuring,
        "layout_and_pieces_seconds": writing,
        "layout_ratio": measuring / baseline,
        "layout_and_pieces_ratio": writing / baseline,
        "peak_megabytes_of_10000": (peak - before) / 1e6,
    }


def main() -> None:
    """Print one figure a line."""
    for name, value in measure(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000).items():
        print(f"{name:28} {value:.3f}")


if __name__ == "__main__":
    main()
