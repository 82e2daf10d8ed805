"""
A picture of the drives' days, as SVG: a band per day, a lane per drive, a bar for everything that it did, marks for what befell the appliance.

A cartridge's stay in a drive is the pale ground under its bars; what takes seconds is drawn as wide as can be seen.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil

from tests.simulation.history import Act, History, Mark

DAY = 86_400.0
COLOURS: Mapping[str, str] = {
    "load": "#8d6e63",
    "thread": "#bcaaa4",
    "format": "#7e57c2",
    "check": "#f9a825",
    "mount": "#26a69a",
    "write": "#1e88e5",
    "sync": "#0d47a1",
    "verify": "#7cb342",
    "read": "#ef6c00",
    "unmount": "#00695c",
    "rewind": "#90a4ae",
    "unload": "#5d4037",
    "down": "#e53935",
}
"""What is drawn, and how; what a drive does besides takes no time to speak of."""
LOADED = "#e3e9ef"
FAILED = "#b71c1c"
MARKS: Mapping[str, tuple[str, str]] = {
    # colour, legend
    "death": ("#000000", "the appliance dies"),
    "start": ("#2e7d32", "it starts"),
    "fault": ("#d81b60", "a fault"),
}

WIDTH, LEFT, RIGHT = 1800.0, 90.0, 20.0
TOP, LEGEND_HEIGHT = 46.0, 58.0
LANE, BAR, GAP = 62.0, 30.0, 10.0
LABEL_HEIGHT, MARKS_HEIGHT, AXIS_HEIGHT, DAY_GAP = 15.0, 34.0, 24.0, 26.0
BAR_LEAST = 1.0
MARK_LEAST = 3.0
CHARACTER = 6.2
"""About the width of one at the size of a barcode's label."""
STYLE = (
    "text{font-family:Helvetica,Arial,sans-serif;font-size:12px;fill:#37474f}"
    ".title{font-size:18px;font-weight:bold;fill:#1c313a}.day{font-size:14px;font-weight:bold}"
    ".barcode{font-size:10.5px;fill:#455a64}.hour{font-size:11px;fill:#78909c;text-anchor:middle}"
    ".drive{text-anchor:end}.grid{stroke:#e0e4e8;stroke-width:1}.noon{stroke:#c3cbd2;stroke-width:1}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """A cartridge is in a drive."""

    drive: int
    barcode: str
    began_at: float
    ended_at: float


def stays(acts: Iterable[Act], until: float) -> Iterator[Stay]:
    """From a load to the unload that ends it; what failed has moved nothing."""
    here: dict[int, tuple[str, float]] = {}
    for act in sorted(
        (act for act in acts if act.what in ("load", "unload") and act.ended_at is not None),
        key=lambda act: act.ended_at or 0.0,
    ):
        if act.failed:
            continue
        if act.drive in here:
            barcode, since = here.pop(act.drive)
            yield Stay(
                drive=act.drive, barcode=barcode, began_at=since, ended_at=act.ended_at or act.began_at
            )
        if act.what == "load":
            here[act.drive] = (act.barcode, act.ended_at or act.began_at)
    for drive, (barcode, since) in sorted(here.items()):
        yield Stay(drive=drive, barcode=barcode, began_at=since, ended_at=until)


class Picture:
    """
    Draws one history.

    :param begins_at, ends_at: what is shown, in the seconds of the history
    """

    def __init__(
        self, history: History, *, title: str, drives: int, begins_at: float, ends_at: float
    ) -> None:
        self._history = history
        self._title = title
        self._drives = drives
        self._begin = begins_at
        self._end = max(ends_at, begins_at + 3600.0)
        self._days = max(1, ceil((self._end - begins_at) / DAY))
        # A short time fills the width as well, by whole hours.
        self._shown = DAY if self._days > 1 else ceil((self._end - begins_at) / 3600.0) * 3600.0
        self._scale = (WIDTH - LEFT - RIGHT) / self._shown
        self._day_height = MARKS_HEIGHT + drives * (LANE + GAP) + AXIS_HEIGHT + DAY_GAP

    def svg(self) -> str:
        """The whole document."""
        height = TOP + LEGEND_HEIGHT + self._days * self._day_height
        return "\n".join(
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH:.0f}" height="{height:.0f}"'
                f' viewBox="0 0 {WIDTH:.0f} {height:.0f}">',
                f"<style>{STYLE}</style>",
                f'<rect width="{WIDTH:.0f}" height="{height:.0f}" fill="white"/>',
                _text(20, 30, self._title, "title"),
                *self._legend(),
                *(line for day in range(self._days) for line in self._day(day)),
                "</svg>",
                "",
            )
        )

    def _legend(self) -> Iterator[str]:
        x, y = 20.0, TOP + 4
        for what, colour in (("idle", LOADED), *COLOURS.items(), ("failed", FAILED)):
            fill = "none" if what == "failed" else colour
            yield f'<rect x="{x:.1f}" y="{y:.1f}" width="16" height="12" rx="2" fill="{fill}" stroke="{colour}"/>'
            yield _text(x + 22, y + 10.5, what)
            x += 42 + len(what) * 7
        x += 20
        for kind, (colour, words) in MARKS.items():
            yield _mark(kind, x + 6, y + 6, colour, "")
            yield _text(x + 18, y + 10.5, words)
            x += 40 + len(words) * 7

    def _day(self, day: int) -> Iterator[str]:
        top = TOP + LEGEND_HEIGHT + day * self._day_height
        begin = self._begin + day * DAY
        end = min(begin + self._shown, self._end) if self._days > 1 else begin + self._shown
        lanes_top = top + MARKS_HEIGHT
        lanes_bottom = lanes_top + self._drives * (LANE + GAP)
        yield f'<g id="day-{day}">'
        yield _text(20, top + 4, f"day {day}", "day")
        yield from self._hours(begin, end, lanes_top, lanes_bottom)
        for drive in range(self._drives):
            yield from self._lane(day, drive, begin, end, lanes_top + drive * (LANE + GAP))
        yield from self._marks(begin, end, top + MARKS_HEIGHT - 12, lanes_bottom)
        yield "</g>"

    def _x(self, at: float, begin: float) -> float:
        return LEFT + (at - begin) * self._scale

    def _hours(self, begin: float, end: float, top: float, bottom: float) -> Iterator[str]:
        for hour in range(int((end - begin) // 3600) + 1):
            x = LEFT + hour * 3600 * self._scale
            look = "noon" if hour % 6 == 0 else "grid"
            yield f'<line class="{look}" x1="{x:.1f}" y1="{top:.1f}" x2="{x:.1f}" y2="{bottom:.1f}"/>'
            yield _text(x, bottom + 15, f"{hour:02}:00", "hour")

    def _lane(self, day: int, drive: int, begin: float, end: float, top: float) -> Iterator[str]:
        yield f'<g class="lane" id="day-{day}-drive-{drive}">'
        middle = top + LABEL_HEIGHT + BAR / 2
        yield _text(LEFT - 12, middle + 4, f"drive {drive}", "drive")
        for stay in stays(self._history.acts, self._end):
            if stay.drive == drive and stay.began_at < end and stay.ended_at > begin:
                x = self._x(max(stay.began_at, begin), begin)
                width = self._x(min(stay.ended_at, end), begin) - x
                yield _bar(x, top + LABEL_HEIGHT - 4, width, BAR + 8, LOADED, stay.barcode)
                if width > len(stay.barcode) * CHARACTER:
                    yield _text(x + 2, top + LABEL_HEIGHT - 7, stay.barcode, "barcode")
        # What takes long first, so that what takes seconds lies on top of it.
        acts = [act for act in self._history.acts if act.drive == drive and act.what in COLOURS]
        for act in sorted(acts, key=lambda act: act.began_at - (act.ended_at or self._end)):
            ended_at = self._end if act.ended_at is None else act.ended_at
            if act.began_at < end and ended_at > max(begin, act.began_at):
                yield self._act(act, max(act.began_at, begin), min(ended_at, end), begin, top)
        yield "</g>"

    def _act(self, act: Act, since: float, until: float, begin: float, top: float) -> str:
        x = self._x(since, begin)
        width = max(BAR_LEAST, self._x(until, begin) - x)
        y, height = top + LABEL_HEIGHT, BAR
        if act.what == "down":
            y, height = top + LABEL_HEIGHT + BAR + 6, 6.0
        size = f", {act.size_bytes} bytes" if act.size_bytes else ""
        words = f"{act.what} {act.barcode}{size}, {until - since:.0f} s" + (
            f": {act.failed}" if act.failed else ""
        )
        bar = _bar(x, y, width, height, COLOURS[act.what], words)
        if not act.failed:
            return bar
        return (
            bar
            + f'<rect x="{x:.1f}" y="{y + height - 4:.1f}" width="{width:.1f}" height="4" fill="{FAILED}"/>'
        )

    def _marks(self, begin: float, end: float, y: float, bottom: float) -> Iterator[str]:
        drawn: dict[str, float] = {}
        for mark in self._history.marks:
            x = self._x(mark.at, begin)
            # One stands for those that would lie on it: an appliance may die a hundred times in an hour.
            if begin <= mark.at < end and x - drawn.get(mark.kind, 0.0) >= MARK_LEAST:
                drawn[mark.kind] = x
                colour = MARKS[mark.kind][0]
                if mark.kind == "death":
                    yield (
                        f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{x:.1f}" y2="{bottom:.1f}" stroke="{colour}"'
                        ' stroke-width="1" stroke-dasharray="3 3" opacity="0.55"/>'
                    )
                yield _mark(mark.kind, x, y - _row(mark), colour, mark.what)


def _row(mark: Mark) -> float:
    """Faults have a row of their own above the lives."""
    return 13.0 if mark.kind == "fault" else 0.0


def _mark(kind: str, x: float, y: float, colour: str, words: str) -> str:
    shape: Sequence[tuple[float, float]]
    match kind:
        case "death":
            path = f"M{x - 4:.1f} {y - 4:.1f}L{x + 4:.1f} {y + 4:.1f}M{x - 4:.1f} {y + 4:.1f}L{x + 4:.1f} {y - 4:.1f}"
            return f'<path d="{path}" stroke="{colour}" stroke-width="2">{_title(words)}</path>'
        case "start":
            shape = ((-3, -4), (4, 0), (-3, 4))
        case _:
            shape = ((0, 4), (-4, -3), (4, -3))
    points = " ".join(f"{x + right:.1f},{y + down:.1f}" for right, down in shape)
    return f'<polygon points="{points}" fill="{colour}">{_title(words)}</polygon>'


def _bar(x: float, y: float, width: float, height: float, colour: str, words: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}">'
        f"{_title(words)}</rect>"
    )


def _title(words: str) -> str:
    """What a viewer shows when one points at it."""
    return f"<title>{escape(words)}</title>" if words else ""


def _text(x: float, y: float, words: str, look: str = "") -> str:
    style = f' class="{look}"' if look else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{style}>{escape(words)}</text>'


def picture(history: History, *, title: str, drives: int, begins_at: float, ends_at: float) -> str:
    """Return a history as an SVG document."""
    return Picture(history, title=title, drives=drives, begins_at=begins_at, ends_at=ends_at).svg()
