"""
Containers for recalled extents: made empty and in full size, filled by the mover, published with the list of what arrived.

Blocking; runs in threads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coldstore.disk.addresses import SliceAddress
from coldstore.disk.blocks import combined
from coldstore.disk.containers import Container, Containers, Counts
from coldstore.disk.filesystem import FileSystem, sorted_error
from coldstore.disk.framing import slot_bytes
from coldstore.disk.index import ContainerIndex, Span
from coldstore.disk.layout import Layout
from coldstore.interfaces.staging import DiskFault, RecalledBytes


@dataclass(frozen=True, slots=True)
class SlotPlan:
    """Where slots lie in a container of ``size_bytes``."""

    offsets: tuple[int, ...]
    size_bytes: int


def planned(lengths: Sequence[int]) -> SlotPlan:
    """
    Lay out slots one behind the other, each beginning on a block of the file system.

    :raise ValueError: there is no slot, or one is empty.
    """
    if not lengths or min(lengths) < 1:
        raise ValueError("a recall has at least one extent, and none of its extents is empty")
    offsets: list[int] = []
    end = 0
    for length in lengths:
        offsets.append(end)
        end += slot_bytes(length)
    return SlotPlan(tuple(offsets), end)


def checked(lengths: Sequence[int], arrived: Sequence[RecalledBytes]) -> None:
    """:raise ValueError: a slot does not exist, comes twice, or its checksums do not belong together."""
    seen: set[int] = set()
    for each in arrived:
        if not 0 <= each.slot < len(lengths) or each.slot in seen:
            raise ValueError(f"slot {each.slot} does not exist or came twice")
        seen.add(each.slot)
        if combined(each.block_checksums, lengths[each.slot]) != each.crc64nvme:
            raise ValueError(f"the block checksums of slot {each.slot} do not add up to its checksum")


def make(system: FileSystem, layout: Layout, name: str, size_bytes: int) -> bool:
    """Make an empty container; tell whether its space is allocated. Nothing is left when that fails."""
    path = layout.filling(name)
    try:
        descriptor = system.create(path)
        try:
            return system.allocate(descriptor, 0, size_bytes)
        except OSError:
            system.unlink(path)
            raise
        finally:
            system.close(descriptor)
    except OSError as error:
        # Without the name, which is another one at each attempt: an alert repeats what this says.
        raise sorted_error(error, f"making a container in {path.parent}") from error


def publish(
    *,
    system: FileSystem,
    layout: Layout,
    containers: Containers,
    counts: Counts,
    name: str,
    lengths: Sequence[int],
    arrived: Mapping[int, RecalledBytes],
) -> dict[int, str]:
    """
    Publish the slots that arrived (by ordinal) and give the others' space back; return their addresses.

    :raise DiskFault: the disk failed or the file is not what was made.
    """
    plan = planned(lengths)
    source, target = layout.filling(name), layout.container(name)
    index = ContainerIndex(slot_bytes)
    gaps: list[Span] = []
    for slot, (offset, length) in enumerate(zip(plan.offsets, lengths, strict=True)):
        end = plan.offsets[slot + 1] if slot + 1 < len(lengths) else plan.size_bytes
        if slot in arrived:
            checksums = arrived[slot].block_checksums
            index.add(offset, length, end, checksums if len(checksums) > 1 else ())
        elif gaps and gaps[-1].end == offset:
            gaps[-1] = Span(gaps[-1].begin, end)
        else:
            gaps.append(Span(offset, end))
    try:
        descriptor = system.open(source, for_writing=True)
        try:
            if (size := system.size(descriptor)) < plan.size_bytes:
                raise DiskFault(f"{source} was made for {plan.size_bytes} bytes and has {size}")
            for gap in gaps:
                if not system.punch(descriptor, gap.begin, gap.end - gap.begin):
                    break
            system.sync(descriptor)
        finally:
            system.close(descriptor)
        container = Container(name, index)
        container.is_swept = True
        containers.write_list(container)
        system.rename(source, target)
        system.sync_directory(target.parent)
        counts.used(name, system.occupied(target))
    except OSError as error:
        raise sorted_error(error, f"publishing {target}") from error
    containers.remember(container)
    return {slot: str(SliceAddress(name, plan.offsets[slot], lengths[slot])) for slot in arrived}


def drop(system: FileSystem, layout: Layout, name: str, counts: Counts) -> None:
    """Remove a container that was not published, wherever publishing it stopped. Repeatable."""
    try:
        system.unlink(layout.filling(name))
        system.unlink(layout.container(name))
        path = layout.records(name)
        size = system.occupied(path)
        if system.unlink(path):
            counts.used(name, -size)
    except OSError as error:
        raise sorted_error(error, f"removing {layout.filling(name)}") from error
