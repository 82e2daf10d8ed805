"""
Which processes run, as ``/proc`` tells (proc_pid_stat(5)).

A process id alone proves nothing after a restart or a reboot; with the start time and the boot it does.
"""

from coldstore.tape.mountrecord import ProcessMark

_START_FIELD = 22
_FIRST_FIELD_AFTER_NAME = 3


def boot_id() -> str:
    """Which boot of this machine this is."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def _state_and_start(process_id: int) -> tuple[str, int] | None:
    try:
        with open(f"/proc/{process_id}/stat", "rb") as file:
            # The name in parentheses may hold anything, parentheses too.
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return fields[0].decode(), int(fields[_START_FIELD - _FIRST_FIELD_AFTER_NAME])


def mark_of(process_id: int) -> ProcessMark | None:
    """Tell a running process so that it cannot be mistaken later; None when there is none."""
    found = _state_and_start(process_id)
    return (
        None if found is None else ProcessMark(process_id=process_id, start_ticks=found[1], boot_id=boot_id())
    )


def is_alive(mark: ProcessMark) -> bool:
    """Whether exactly this process still runs; one that ended and was not reaped yet does not."""
    found = _state_and_start(mark.process_id)
    return (
        found is not None
        and found[1] == mark.start_ticks
        and found[0] not in "ZX"
        and mark.boot_id == boot_id()
    )
