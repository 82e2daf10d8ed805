"""
What is on a tape of ours: its label, its newest index, and what lies behind that. Moves the tape, and writes nothing.
"""

import errno
from dataclasses import dataclass, replace

from coldstore.ontape.errors import OnTapeDamaged
from coldstore.ontape.paths import bundle_path
from coldstore.ontape.reading import BUNDLE_TAIL_BYTES, bundle_id_of_tail
from coldstore.ontape.tape import (
    TAPE_BLOCK_BYTES,
    TapeEntry,
    TapeIndex,
    TapeLabel,
    is_label,
    parse_index_file,
    parse_label_file,
)
from coldstore.tape.moving import Fault
from coldstore.tape.raw.reel import NotWhole, Place, Reel, TapeFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """
    What was found behind the label of a tape.

    ``index`` is the newest that can be read, None if there is none; ``behind`` are the tape files behind it, the last one first. ``end`` is the
    end of data, None when the drive does not find it.
    """

    index: TapeIndex | None
    behind: tuple[TapeFile, ...]
    end: Place | None

    @property
    def is_closed(self) -> bool:
        """The index is the last thing on tape."""
        return self.index is not None and not self.behind and self.end is not None


def label_of(reel: Reel) -> TapeLabel:
    """
    The label of the tape.

    :raise Fault: NotFormatted
    """
    try:
        first = reel.first_block()
        if is_label(first):
            return parse_label_file(reel.whole(0))
    except (NotWhole, OnTapeDamaged) as error:
        raise Fault("NotFormatted", message=str(error)) from error
    except OSError as error:
        if error.errno == errno.EIO and reel.is_blank():
            raise Fault("NotFormatted", message="the tape is blank") from error
        if error.errno == errno.ENOMEM:
            raise Fault("NotFormatted", message="it begins with a larger block than ours") from error
        raise
    if first.startswith(b"VOL1") and b"LTFS" in first:
        raise Fault("NotFormatted", message="it has an LTFS volume")
    raise Fault("NotFormatted", message=f"it begins with {len(first)} bytes that are not a label of ours")


def described(reel: Reel) -> str:
    """Say what a tape begins with, for people."""
    try:
        label = label_of(reel)
        return f"it has the volume {label.volume_uuid} ({label.volume_name!r}) of {label.barcode}"
    except Fault as fault:
        return str(fault.fields["message"])
    except (OSError, NotWhole) as error:
        return f"it begins with what cannot be read ({error})"


def take_survey(reel: Reel, label: TapeLabel, *, can_be_closed: bool) -> Survey:
    """
    Find the newest index, from the end of data back; by all of the tape when its end is lost.

    :param can_be_closed: another index may be written behind what is found. Then no closed tape file behind the newest index that can be
        read may be a newer one that this drive cannot read: another drive may, and what that index lists would be listed no more.
    :raise OSError: one may be such.
    """
    try:
        end: Place | None = reel.end()
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        end = None
    files = reel.forwards() if end is None else reel.backwards(end)
    behind: list[TapeFile] = []
    newest: TapeIndex | None = None
    for found in files:
        is_needed = can_be_closed and end is not None
        index = _index(reel, label, found, is_needed=is_needed)
        if index is None:
            behind.append(found)
        elif end is None:
            newest, behind = index, []
        else:
            newest = index
            break
    if end is None:
        behind.reverse()
    # The label is no file behind an index.
    behind = [found for found in behind if found.start.block]
    return Survey(index=newest, behind=tuple(behind), end=end)


def _index(reel: Reel, label: TapeLabel, found: TapeFile, *, is_needed: bool) -> TapeIndex | None:
    """
    The index that a tape file is, if it is one of this volume, whole, and where it says that it lies.

    :raise OSError: it cannot be read, and is needed.
    """
    if is_needed and found.is_closed and found.head is None:
        raise OSError(errno.EIO, f"tape file {found.start.tape_file} cannot be read, and may be an index")
    if not (found.is_closed and found.is_index):
        return None
    try:
        index = parse_index_file(reel.whole(found.start.block))
    except OSError:
        if is_needed:
            raise
        return None
    except (NotWhole, OnTapeDamaged):
        return None
    place = Place(tape_file=index.tape_file, block=index.block)
    return index if index.label == label and place == found.start else None


def index_of(reel: Reel, label: TapeLabel, survey: Survey, *, created_at: float, message: str) -> TapeIndex:
    """An index that could stand at the end of the tape now."""
    end = survey.end or Place(tape_file=0, block=0)
    last = survey.index
    begin = last.block if last else 0
    return TapeIndex(
        label=label,
        generation=last.generation + 1 if last else 1,
        created_at=created_at,
        message=message,
        tape_file=end.tape_file,
        block=end.block,
        used_bytes=(last.used_bytes if last else 0) + max(end.block - begin, 0) * TAPE_BLOCK_BYTES,
        is_full=last.is_full if last else False,
        entries=tuple(_recovered(reel, survey)),
    )


def _recovered(reel: Reel, survey: Survey) -> list[TapeEntry]:
    """
    What is known of the files of a tape that was not closed: those of the newest index, and whole bundles behind it.

    A bundle tells by its end what it is. Files of other kinds that no index lists were never synced, or are gone.
    """
    entries = list(survey.index.entries) if survey.index else []
    known = {entry.path for entry in entries}
    for found in reversed(survey.behind):
        if not found.is_closed or not found.head:
            continue
        try:
            size_bytes, tail = reel.last_bytes(found, BUNDLE_TAIL_BYTES)
            path = bundle_path(bundle_id_of_tail(tail, size_bytes))
        except (OSError, OnTapeDamaged):
            continue
        if path not in known:
            known.add(path)
            entries.append(
                TapeEntry(
                    path=path,
                    size_bytes=size_bytes,
                    tape_file=found.start.tape_file,
                    block=found.start.block,
                    offset_bytes=0,
                    sha256=None,
                )
            )
    return entries


def void_start(reel: Reel, survey: Survey) -> Place | None:
    """Where the last stretch of tape files begins that can be read and are neither indexes nor whole bundles."""
    start: Place | None = None
    for found in survey.behind:
        if found.head is None or found.is_index:
            break
        try:
            size_bytes, tail = reel.last_bytes(found, BUNDLE_TAIL_BYTES)
            bundle_id_of_tail(tail, size_bytes)
            break
        except OSError:
            break
        except OnTapeDamaged:
            start = found.start
    return start


def moved(index: TapeIndex, place: Place) -> TapeIndex:
    """Return the index as it is when it lies somewhere else."""
    return replace(index, tape_file=place.tape_file, block=place.block)
