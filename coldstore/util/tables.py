"""Tables and quantities for people."""

from collections.abc import Mapping, Sequence

UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def size(value: object) -> str:
    """Return bytes in the unit that reads best."""
    if not isinstance(value, int | float):
        return "-"
    amount = float(value)
    for unit in UNITS[:-1]:
        if abs(amount) < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} {UNITS[-1]}"


def duration(value: object) -> str:
    """Return seconds as a person says them."""
    if not isinstance(value, int | float):
        return "-"
    if value < 120:
        return f"{value:.0f} s"
    if value < 7200:
        return f"{value / 60:.0f} min"
    return f"{value / 3600:.1f} h" if value < 172_800 else f"{value / 86_400:.1f} days"


def printable(text: str) -> str:
    """Return text that cannot break a line or speak to the terminal: keys may hold any character."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def cell(name: str, value: object) -> str:
    """Return one value as it stands in a table; the column's name tells its unit."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name.endswith("_bytes"):
        return size(value)
    if name.endswith("_seconds"):
        return duration(value)
    return printable(str(value))


def table(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> str:
    """Return rows under a head line, columns aligned; numbers to the right."""
    if not rows:
        return "(none)"
    cells = [[cell(column, row.get(column)) for column in columns] for row in rows]
    heads = [
        column.removesuffix("_bytes").removesuffix("_seconds").replace("_", " ").upper() for column in columns
    ]
    widths = [max(len(line[n]) for line in [heads, *cells]) for n in range(len(columns))]
    right = [all(isinstance(row.get(column), int | float | None) for row in rows) for column in columns]

    def line(values: Sequence[str]) -> str:
        parts = [
            value.rjust(width) if is_right else value.ljust(width)
            for value, width, is_right in zip(values, widths, right, strict=True)
        ]
        return "  ".join(parts).rstrip()

    return "\n".join([line(heads), *(line(values) for values in cells)])


def page(row: Mapping[str, object]) -> str:
    """Return one row as lines of name and value."""
    width = max(len(name) for name in row)
    lines = []
    for name, value in row.items():
        if isinstance(value, list):
            lines.append(f"{_label(name):{width}}  {'; '.join(str(item) for item in value) or '-'}")
        else:
            lines.append(f"{_label(name):{width}}  {cell(name, value)}")
    return "\n".join(lines)


def _label(name: str) -> str:
    return name.removesuffix("_bytes").removesuffix("_seconds").replace("_", " ")
