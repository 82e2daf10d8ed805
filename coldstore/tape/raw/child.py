"""
The mover of a raw tape: everything that moves the tape, as commands of a child process (its language: ``coldstore.tape.moving``).

``python -m coldstore.tape.raw.child DEVICE`` formats or checks what is in one drive, and serves one mount. It opens the device with the first
command that needs it and holds it until the mount ends. Every command names the working copy of its mount: a child that was started
again finds there what its predecessor knew, and trusts no position before it has looked at the end of the tape.
"""

import base64
import errno
import mmap
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

from coldstore.ontape.errors import OnTapeDamaged
from coldstore.ontape.paths import SHA256_ATTRIBUTE
from coldstore.ontape.tape import (
    TAPE_BLOCK_BYTES,
    TapeEntry,
    TapeIndex,
    TapeLabel,
    index_file,
    label_file,
    parse_index_file,
    small_file,
)
from coldstore.tape.moving import (
    Emit,
    Fault,
    Line,
    Outgoing,
    Pace,
    copy_out,
    copy_plan,
    digest_of,
    emit_entries,
    naming_faults,
    read_ranges,
    serve,
)
from coldstore.tape.raw.content import TapeContent
from coldstore.tape.raw.device import KernelTape, RewindingNode, TapeDevice
from coldstore.tape.raw.reel import NotWhole, Place, Reel
from coldstore.tape.raw.survey import Survey, described, index_of, label_of, moved, take_survey, void_start
from coldstore.tape.raw.workingcopy import (
    PARTITION,
    NameTaken,
    NoSuchName,
    NoWorkingCopy,
    Progress,
    WorkingCopy,
)

UNUSABLE = frozenset({errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENODEV, errno.ENXIO})
"""What a node answers that no cartridge can be blamed for."""

OpenDevice = Callable[[str], TapeDevice]


class RawMover:
    """
    Obeys commands about one drive.

    :param open_device: opens the drive: the kernel's or the virtual library's.
    """

    def __init__(self, device: str, open_device: OpenDevice) -> None:
        self._path = device
        self._working_copy = ""
        self._open_device = open_device
        self._now = 0.0
        """The time of day, as the last command told it, in unix seconds."""
        self._buffer = memoryview(mmap.mmap(-1, TAPE_BLOCK_BYTES))
        self._second_buffer = memoryview(mmap.mmap(-1, TAPE_BLOCK_BYTES))
        self._device: TapeDevice | None = None
        self._volume: WorkingCopy | None = None
        self._is_at_end = False
        self._operations: dict[str, Callable[[Line, Emit], Line]] = {
            "format": self._format,
            "check": self._check,
            "mount": self._mount,
            "resume": self._resume,
            "sync": self._sync,
            "unmount": self._unmount,
            "write": self._write,
            "put_file": self._put_file,
            "verify": self._verify,
            "read": self._read,
            "get_file": self._get_file,
            "get_attributes": self._get_attributes,
            "list": self._list,
            "unlink": self._unlink,
            "space": self._space,
        }

    def obey(self, command: Line, emit: Emit) -> Line:
        """Carry out one command and return the last line of its answer."""
        self._now, self._working_copy = command["at"], command["working_copy"]
        try:
            return {"done": self._operations[command["op"]](command, emit)}
        except Fault as fault:
            return {"fault": fault.fields}

    # --- The drive

    def _opened(self) -> TapeDevice:
        """
        Open the drive, or go on with it.

        :raise OSError: it cannot be opened, or has no tape.
        """
        if self._device is None:
            device = self._open_device(self._path)
            if not device.status().is_online:
                device.close()
                raise OSError(errno.ENOMEDIUM, os.strerror(errno.ENOMEDIUM))
            self._device = device
            self._is_at_end = False
        return self._device

    def _let_go(self) -> None:
        if self._device is not None:
            self._device.close()
            self._device = None

    @contextmanager
    def _whole_drive(self, failed: str) -> Iterator[Reel]:
        """
        The drive for an operation on the tape as a whole; let go of when that fails.

        :param failed: the kind of fault for what has no kind of its own.
        """
        try:
            yield Reel(self._opened(), self._buffer)
        except BaseException as error:
            self._let_go()
            match error:
                case RewindingNode():
                    raise Fault("CannotStart", message=str(error)) from error
                case OSError(errno=errno.EBUSY):
                    raise Fault("DriveBusy", message=f"{self._path}: {error.strerror}") from error
                case OSError(errno=errno.ENOMEDIUM):
                    raise Fault("NoMedium", message=f"{self._path}: no tape is loaded") from error
                case OSError() if error.errno in UNUSABLE:
                    raise Fault("CannotStart", message=f"{self._path}: {error.strerror}") from error
                case OSError() | NotWhole() | OnTapeDamaged():
                    raise Fault(failed, message=f"{self._path}: {error}") from error
            raise

    def _demand_fit(self, device: TapeDevice) -> None:
        if why := device.unfitness():
            raise Fault(
                "CannotStart",
                message=f"{self._path} cannot be written: {why}; clear it with mt stclearoptions",
            )

    # --- Format, survey, check

    def _format(self, command: Line, emit: Emit) -> Line:
        label = TapeLabel(
            barcode=command["barcode"],
            volume_uuid=command["volume_uuid"],
            volume_name=command["volume_name"],
            created_at=self._now,
        )
        with self._whole_drive("FormatFailed") as reel:
            device = reel.device
            if not reel.is_blank():
                raise Fault("AlreadyFormatted", message=f"the tape is not blank: {described(reel)}")
            if device.status().is_write_protected:
                raise Fault("WriteProtected", message="the cartridge is write protected")
            self._demand_fit(device)
            device.rewind()
            if device.position():
                raise Fault("FormatFailed", message="the drive does not rewind")
            content = label_file(label)
            end = self._append(device, Place(tape_file=0, block=0), content)
            index = TapeIndex(
                label=label,
                generation=1,
                created_at=label.created_at,
                message="formatted",
                tape_file=end.tape_file,
                block=end.block,
                used_bytes=len(content),
                is_full=False,
                entries=(),
            )
            self._append(device, end, index_file(index))
            device.rewind()
        self._let_go()
        return {}

    def _check(self, command: Line, emit: Emit) -> Line:
        said: list[str] = []
        with self._whole_drive("CheckFailed") as reel:
            try:
                label = label_of(reel)
            except Fault as fault:
                self._let_go()
                finding = str(fault.fields["message"])
                return {"is_consistent": False, "was_repaired": False, "finding": finding, "log": [finding]}
            is_protected = reel.device.status().is_write_protected
            survey = take_survey(reel, label, can_be_closed=not is_protected)
            must_close = not survey.is_closed and survey.end is not None and not is_protected
            if survey.index is None:
                said.append("no index can be read")
            if survey.end is None:
                said.append("the end of data cannot be found: the tape can only be read")
            said += [
                f"tape file {found.start.tape_file} is listed in no index"
                + (", and cannot be read" if found.head is None else "")
                for found in reversed(survey.behind)
            ]
            if is_protected and not survey.is_closed:
                said.append("the cartridge is write protected: the tape can only be read")
            if must_close:
                self._demand_fit(reel.device)
                said += self._close(reel, label, survey)
            reel.device.rewind()
        self._let_go()
        return {"is_consistent": True, "was_repaired": must_close, "finding": "", "log": said}

    def _close(self, reel: Reel, label: TapeLabel, survey: Survey) -> list[str]:
        """Write an index behind everything, so that the tape is closed in order; what is behind the last one stays where it is."""
        device = reel.device
        index = index_of(reel, label, survey, created_at=self._now, message="closed by a check")
        before = len(survey.index.entries) if survey.index else 0
        device.to_end()
        assert survey.end is not None
        if not reel.is_closed(survey.end):
            device.write_filemarks(1)
            end = Place(tape_file=survey.end.tape_file + 1, block=device.position())
            index = moved(index, end)
        try:
            self._append(device, Place(tape_file=index.tape_file, block=index.block), index_file(index))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            start = void_start(reel, survey)
            if start is None:
                raise
            self._append_at(device, start, index_file(moved(index, start)))
        found = len(index.entries) - before
        return [f"{found} bundles that were whole are listed again"] if found else []

    # --- Writing at the end

    def _append(self, device: TapeDevice, start: Place, content: bytes) -> Place:
        """
        Write a small tape file where the tape stands, wait until it is on the medium, and compare the position.

        :return: the end of data.
        :raise OSError: ENOSPC when there is no room at all, EIO for the drive's errors and for a tape that was moved.
        """
        for begin in range(0, len(content), TAPE_BLOCK_BYTES):
            piece = content[begin : begin + TAPE_BLOCK_BYTES]
            block = self._buffer[: len(piece)]
            block[:] = piece
            try:
                device.write(block)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                # Early warning: refused once, to be told of; the second time it goes through while there is room.
                device.write(block)
        return self._close_file(device, start, -(-len(content) // TAPE_BLOCK_BYTES))

    def _append_at(self, device: TapeDevice, start: Place, content: bytes) -> Place:
        """Go to a place behind which nothing is of any worth, and write a small tape file there."""
        device.locate(start.block)
        if device.position() != start.block:
            raise OSError(errno.EIO, "the drive does not find the place to write at")
        return self._append(device, start, content)

    @staticmethod
    def _close_file(device: TapeDevice, start: Place, blocks: int) -> Place:
        """Write a file mark behind so many blocks, wait until all is on the medium, and compare the position."""
        device.write_filemarks(1)
        end = start.block + blocks + 1
        found = device.position()
        if found != end:
            raise OSError(errno.EIO, f"the tape stands at block {found} instead of {end}: it was moved")
        return Place(tape_file=start.tape_file + 1, block=end)

    # --- Mounting

    def _mount(self, command: Line, emit: Emit) -> Line:
        barcode, volume_uuid = command["barcode"], command["volume_uuid"]
        with self._whole_drive("MountFailed") as reel:
            label = label_of(reel)
            if label.barcode != barcode or volume_uuid not in (None, label.volume_uuid):
                raise Fault(
                    "WrongVolume",
                    message=f"expected {barcode} with volume {volume_uuid or 'any'}, found {label.barcode} with volume {label.volume_uuid}",
                    found_label=label.barcode,
                    found_uuid=label.volume_uuid,
                )
            is_protected = reel.device.status().is_write_protected
            if not (command["read_only"] or is_protected):
                self._demand_fit(reel.device)
            survey = take_survey(reel, label, can_be_closed=not is_protected)
            if survey.index is not None and survey.is_closed:
                end = survey.end
                assert end is not None
                index = moved(survey.index, end)
                why = "PROTECTED" if is_protected else None
            else:
                # What cannot be closed by a check can be read nevertheless.
                if survey.end is not None and not is_protected:
                    raise Fault(
                        "NeedsCheck",
                        message=f"{len(survey.behind)} tape files are listed in no index: the tape was not closed in order",
                    )
                index, why = (
                    index_of(reel, label, survey, created_at=self._now, message="not closed"),
                    "NOT_CLOSED",
                )
            if command["read_only"]:
                why = "ASKED"
            progress = Progress(
                read_only=why is not None, index_block=survey.index.block if survey.index else 0
            )
            volume = WorkingCopy(self._working_copy, index, progress)
            try:
                volume.save()
            except OSError as error:
                raise Fault("NotRecorded", message=f"{self._working_copy}: {error.strerror}") from error
            self._volume = volume
        return {**self._introduction(), "read_only": why}

    def _introduction(self) -> Line:
        assert self._volume is not None
        index = self._volume.index
        return {
            "volume_uuid": index.label.volume_uuid,
            "volume_name": index.label.volume_name,
            "generation": index.generation,
        }

    def _served(self) -> WorkingCopy:
        """
        The mounted volume.

        :raise Fault: VolumeGone
        """
        if self._volume is None:
            try:
                self._volume = WorkingCopy.load(self._working_copy)
            except NoWorkingCopy as error:
                raise Fault("VolumeGone", message=f"nothing is mounted: {error}") from error
        if self._volume.progress.gone:
            raise Fault("VolumeGone", message=self._volume.progress.gone)
        return self._volume

    def _lost(self, why: str) -> Fault:
        assert self._volume is not None
        self._volume.note(gone=why)
        return Fault("VolumeGone", message=why)

    def _drive(self, volume: WorkingCopy) -> TapeDevice:
        """
        The drive with the mounted volume; a child that opens it first sees whose tape is in it.

        :raise Fault: VolumeGone, MediumFault
        """
        is_new = self._device is None
        with naming_faults("", "open"):
            try:
                device = self._opened()
            except RewindingNode as error:
                raise Fault("VolumeGone", message=str(error)) from error
        if is_new:
            try:
                with naming_faults("", "read the label"):
                    self._demand_ours(Reel(device, self._buffer), volume)
            except BaseException:
                self._let_go()
                raise
        return device

    def _demand_ours(self, reel: Reel, volume: WorkingCopy) -> None:
        """
        See that the tape begins with the label of the mounted volume.

        :raise Fault: VolumeGone
        """
        try:
            found = label_of(reel)
        except Fault as fault:
            raise self._lost(f"the volume is not in the drive any more: {fault.fields['message']}") from fault
        if found != volume.index.label:
            raise self._lost(f"another volume is in the drive: {found.volume_uuid} of {found.barcode}")

    def _resume(self, command: Line, emit: Emit) -> Line:
        volume = self._served()
        with self._whole_drive("VolumeGone") as reel:
            self._demand_ours(reel, volume)
            if not self._has_index(reel, volume):
                raise self._lost("the newest index is not where we left it")
        if not volume.progress.read_only:
            self._go_to_end(volume)
        return self._introduction()

    @staticmethod
    def _has_index(reel: Reel, volume: WorkingCopy) -> bool:
        """Whether the newest index is where it was; a volume that is only read may have none."""
        block = volume.progress.index_block
        if not block or volume.progress.read_only:
            return True
        try:
            index = parse_index_file(reel.whole(block))
        except (NotWhole, OnTapeDamaged):
            return False
        expected = volume.index
        return (index.label, index.generation, index.block) == (expected.label, expected.generation, block)

    def _unmount(self, command: Line, emit: Emit) -> Line:
        volume = self._served()
        if volume.progress.is_changed:
            self._sync({"message": "unmount", "new_files": []}, emit)
        device = self._drive(volume)
        with naming_faults("", "rewind"):
            device.rewind()
        volume.discard()
        self._volume = None
        self._let_go()
        return {}

    def _go_to_end(self, volume: WorkingCopy) -> TapeDevice:
        """
        Stand where the data end, and prove that this is where we left it.

        :raise Fault: VolumeGone when something else wrote on the tape, MediumFault.
        """
        device = self._drive(volume)
        if self._is_at_end and not volume.progress.is_writing:
            # An error here is mostly a unit attention: the drive was reset, and the tape is elsewhere.
            with suppress(OSError):
                if device.position() == volume.end.block:
                    return device
        self._is_at_end = False
        reel = Reel(device, self._buffer)
        with naming_faults("", "look for the end of the tape"):
            # It may have been exchanged, for one that ends at the same place.
            self._demand_ours(reel, volume)
            end = reel.end()
            if volume.progress.is_writing and end.block >= volume.end.block:
                self._settle_stump(volume, reel, end)
            elif end != volume.end:
                raise self._lost(
                    f"the data on tape end at block {end.block}, not at {volume.end.block} where we left them"
                )
        self._is_at_end = True
        return device

    @staticmethod
    def _settle_stump(volume: WorkingCopy, reel: Reel, end: Place) -> None:
        """Close what a write that was cut off has left; it stays on tape and is listed nowhere."""
        begin = volume.end
        if end.block > begin.block and not reel.is_closed(end):
            reel.device.write_filemarks(1)
            end = Place(tape_file=end.tape_file + 1, block=reel.device.position())
        volume.move_end(end, (end.block - begin.block) * TAPE_BLOCK_BYTES)
        volume.note(is_writing=False)

    @staticmethod
    def _demand_writable(volume: WorkingCopy, path: str, operation: str) -> None:
        if volume.progress.read_only:
            raise Fault(
                "MediumFault",
                path=path,
                operation=operation,
                errno=errno.EROFS,
                message=os.strerror(errno.EROFS),
            )

    @contextmanager
    def _writing(self, volume: WorkingCopy) -> Iterator[tuple[TapeDevice, Place]]:
        """The drive at the end of data, with a note that what follows may become a stump."""
        device = self._go_to_end(volume)
        volume.note(is_writing=True)
        self._is_at_end = False
        yield device, volume.end
        self._is_at_end = True

    def _written(self, volume: WorkingCopy, entry: TapeEntry, end: Place, used_bytes: int) -> None:
        volume.put(entry)
        volume.move_end(end, used_bytes)
        volume.note(is_writing=False, is_changed=True)

    def _write(self, command: Line, emit: Emit) -> Line:
        started = time.monotonic()
        attributes = {name: base64.b64decode(value) for name, value in command["attributes"].items()}
        volume, path = self._served(), command["path"]
        _demand_free(volume, path, replaces=command["replace"])
        self._demand_writable(volume, path, "create")
        if volume.index.is_full:
            raise Fault("EndOfTape", path=path, written=0)
        with self._writing(volume) as (device, start):

            def put(block: memoryview) -> int:
                device.write(block)
                return len(block)

            outgoing = Outgoing(put, path, (self._buffer, self._second_buffer), Pace(emit))
            try:
                copy_plan(command["plan"], outgoing)
                size_bytes, end = outgoing.written_bytes, start
                if size_bytes:
                    with naming_faults(path, "write file mark"):
                        end = self._close_file(device, start, -(-size_bytes // TAPE_BLOCK_BYTES))
            except Fault as fault:
                raise self._cut_off(volume, device, path, outgoing.written_bytes, fault) from fault
            finally:
                outgoing.close()
        entry = TapeEntry(
            path=path,
            size_bytes=size_bytes,
            tape_file=start.tape_file if size_bytes else None,
            block=start.block if size_bytes else None,
            offset_bytes=0,
            sha256=outgoing.sha256(),
            attributes=attributes,
        )
        self._written(volume, entry, end, size_bytes)
        return {"size": size_bytes, "sha256": outgoing.sha256(), "seconds": time.monotonic() - started}

    def _put_file(self, command: Line, emit: Emit) -> Line:
        volume, path = self._served(), command["path"]
        _demand_free(volume, path, replaces=True)
        self._demand_writable(volume, path, "create")
        with open(command["plan"], "rb") as plan:
            plan.readline()
            content = plan.read()
        file, offset = small_file(path, content, self._now)
        with self._writing(volume) as (device, start):
            try:
                with naming_faults(path, "write"):
                    end = self._append(device, start, file)
            except Fault as fault:
                raise self._cut_off(volume, device, path, 0, fault) from fault
        entry = TapeEntry(
            path=path,
            size_bytes=len(content),
            tape_file=start.tape_file,
            block=start.block,
            offset_bytes=offset,
            sha256=None,
        )
        self._written(volume, entry, end, len(file))
        return {}

    def _cut_off(
        self, volume: WorkingCopy, device: TapeDevice, path: str, written_bytes: int, fault: Fault
    ) -> Fault:
        """A write has failed: leave the tape in order as far as the drive can, and say what was the matter."""
        start = volume.end
        is_full = fault.fields.get("errno") == errno.ENOSPC
        # What cannot be done now is done before the next write.
        with suppress(OSError):
            if is_full:
                # Behind the stump there may be no room for anything. So the index goes in its place, and there is room for more.
                volume.move_end(start, 0, is_full=True)
                self._put_index(volume, device, "end of tape", is_in_place_of_stump=True)
            elif fault.fields["kind"] != "MediumFault":
                end = start
                if written_bytes:
                    device.write_filemarks(1)
                    end = Place(tape_file=start.tape_file + 1, block=device.position())
                volume.move_end(end, written_bytes)
                volume.note(is_writing=False)
                self._is_at_end = True
        return Fault("EndOfTape", path=path, written=written_bytes) if is_full else fault

    def _put_index(
        self, volume: WorkingCopy, device: TapeDevice, message: str, *, is_in_place_of_stump: bool = False
    ) -> None:
        """Write the index at the end of data, where the tape stands, or has to go."""
        start = volume.end
        index = replace(
            volume.index,
            generation=volume.index.generation + 1,
            created_at=self._now,
            message=message,
        )
        content = index_file(index)
        append = self._append_at if is_in_place_of_stump else self._append
        end = append(device, start, content)
        volume.move_end(
            end, len(content), generation=index.generation, created_at=index.created_at, message=message
        )
        volume.note(is_writing=False, is_changed=False, index_block=start.block)
        self._is_at_end = True

    def _sync(self, command: Line, emit: Emit) -> Line:
        volume = self._served()
        blocks = {}
        for path in command["new_files"]:
            entry = volume.entries.get(path)
            if entry is None or entry.block is None:
                raise Fault("SyncFailed", message=f"{path} is not on tape")
            blocks[path] = entry.block
        if volume.progress.is_changed:
            if volume.progress.read_only:
                raise Fault("SyncFailed", message="the volume is read-only")
            with self._writing(volume) as (device, _):
                try:
                    self._put_index(volume, device, command["message"])
                except OSError as error:
                    raise Fault("SyncFailed", message=f"writing the index: {error.strerror}") from error
        return {
            "generation": volume.index.generation,
            "partition": PARTITION,
            "block": volume.progress.index_block,
            "start_blocks": blocks,
        }

    # --- Reading

    def _content(self, path: str) -> tuple[TapeEntry, TapeContent]:
        volume = self._served()
        try:
            entry = volume.entry(path)
        except NoSuchName as error:
            raise Fault("NoSuchFileOnVolume", path=path) from error
        self._is_at_end = False
        return entry, TapeContent(self._drive(volume), entry, self._buffer)

    def _verify(self, command: Line, emit: Emit) -> Line:
        path = command["path"]
        started = time.monotonic()
        _, content = self._content(path)
        size, digest = digest_of(content, path, (self._buffer, self._second_buffer), emit)
        with naming_faults(path, "read"):
            size += content.surplus_bytes()
        return {"size": size, "sha256": digest, "seconds": time.monotonic() - started}

    def _read(self, command: Line, emit: Emit) -> Line:
        _, content = self._content(command["path"])
        read_ranges(command["plan"], command["block_bytes"], content, emit)
        return {}

    def _get_file(self, command: Line, emit: Emit) -> Line:
        path = command["path"]
        entry, content = self._content(path)
        if entry.size_bytes > command["limit"]:
            raise Fault("FileTooLarge", message=f"{path} has {entry.size_bytes} bytes")
        size = copy_out(content, path, command["destination"], TAPE_BLOCK_BYTES)
        if size != entry.size_bytes:
            raise Fault(
                "MediumFault",
                path=path,
                operation="read",
                errno=errno.EIO,
                message=f"the file ends after {size} of {entry.size_bytes} bytes",
            )
        return {"size": size}

    # --- What needs no tape

    def _get_attributes(self, command: Line, emit: Emit) -> Line:
        try:
            entry = self._served().entry(command["path"])
        except NoSuchName as error:
            raise Fault("NoSuchFileOnVolume", path=command["path"]) from error
        values = dict(entry.attributes)
        if entry.sha256 is not None:
            values[SHA256_ATTRIBUTE] = entry.sha256.encode()
        return {
            "values": {
                name: base64.b64encode(values[name]).decode() for name in command["names"] if name in values
            }
        }

    def _list(self, command: Line, emit: Emit) -> Line:
        try:
            emit_entries(self._served().listed(command["path"]), emit)
        except NoSuchName as error:
            raise Fault("NoSuchFileOnVolume", path=command["path"]) from error
        return {}

    def _unlink(self, command: Line, emit: Emit) -> Line:
        volume, path = self._served(), command["path"]
        self._demand_writable(volume, path, "unlink")
        if volume.remove(path):
            volume.note(is_changed=True)
        return {}

    def _space(self, command: Line, emit: Emit) -> Line:
        volume = self._served()
        device, index = self._drive(volume), volume.index
        with naming_faults("", "ask for the room"):
            room = device.room()
        if room is None:
            # The drive may have had news for the tape driver, which it tells only once.
            self._is_at_end = False
        return {"used": index.used_bytes, "is_full": index.is_full, "room": room}


def _demand_free(volume: WorkingCopy, path: str, *, replaces: bool) -> None:
    try:
        volume.demand_free(path, replaces=replaces)
    except NameTaken as error:
        raise Fault("FileExistsOnVolume", path=path) from error
    except NoSuchName as error:
        raise Fault("NoSuchFileOnVolume", path=path) from error


def main(arguments: Sequence[str], open_device: OpenDevice = KernelTape) -> None:
    """
    Serve one drive until standard input is closed.

    :param arguments: the device.
    """
    serve(RawMover(arguments[0], open_device).obey)


if __name__ == "__main__":
    main(sys.argv[1:])
