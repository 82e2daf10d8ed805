"""A virtual LTO library: an iSCSI target that emulates a media changer (SMC)
and tape drives (SSC). Standard library only. Used inside the tapevm guest.

Compared with tgtd it adds: UNIT ATTENTION on load, unload and ready states,
LOCATE, READ POSITION, ERASE, partitions, early warning and end of medium,
EXCHANGE MEDIUM, LOG SENSE (TapeAlert, tape usage, capacity), MAM attributes,
cleaning cartridges, latencies and injection of faults; and what LTFS asks of a
drive: partitions, volume statistics, programmable early warning, append-only
mode, persistent reservations, command timeouts.

Cartridge contents live in memory. Control socket: one request per connection, e.g.
  state | protect BARCODE on|off | alert DRIVE FLAG on|off | ua LUN ASC ASCQ
  inject LUN OPCODE KEY ASC ASCQ [COUNT]        (numbers in hex, COUNT decimal)
  reserve DRIVE on|off                          (by another host)
  latency move|load|unload|rewind|locate|erase|format SECONDS
  flip BARCODE HEX                              (one byte, where these bytes are)
  blank BARCODE [MIB]                           (as it came from the factory; rewind it, if it is in a drive)
  trace on|off                                  (each command to standard output)
"""

import argparse
import queue
import socket
import struct
import sys
import threading
import time

NO_SENSE, NOT_READY, MEDIUM_ERROR, ILLEGAL, ATTENTION, PROTECT, BLANK, OVERFLOW = 0, 2, 3, 5, 6, 7, 8, 13
FM, EOM, ILI = 0x80, 0x40, 0x20
LATENCIES = "move", "load", "unload", "rewind", "locate", "erase", "format"


class Check(Exception):
    """CHECK CONDITION with fixed-format sense data; may carry data read."""

    def __init__(self, key, asc, ascq=0, info=None, flags=0, data=b""):
        super().__init__(key, asc, ascq)
        self.data = data
        valid = 0x80 if info is not None else 0
        self.sense = struct.pack(
            ">BBBiB4xBBB3x", 0x70 | valid, 0, key | flags, info if info is not None else 0, 10, asc, ascq, 0
        )


def be(data):
    return int.from_bytes(data, "big")


def pad(text, size):
    return text.encode("ascii")[:size].ljust(size)


class Cartridge:
    COHERENCY = 0x080C  # the only host attribute that each partition has its own

    def __init__(self, barcode, capacity, kind="data"):
        self.barcode, self.capacity, self.kind = barcode, capacity, kind
        self.protected = False
        self.parts = [[]]  # a record is bytes, a filemark is None
        self.used = [0]
        self.loads = 0
        self.written = self.read = 0
        self.changes = 0  # volume change reference
        self.host = {}  # MAM attributes written by the host: (partition, code) -> raw

    def format(self, count):
        self.parts = [[] for _ in range(count)]
        self.used = [0] * count
        self.changes += 1
        self.host.pop((0, self.COHERENCY), None)
        self.host.pop((1, self.COHERENCY), None)

    def part_capacity(self, part):
        if len(self.parts) == 1:
            return self.capacity
        return self.capacity // 20 if part == 0 else self.capacity * 19 // 20


class Unit:
    """What every logical unit does."""

    pdt, vendor, product, revision, serial = 0, "", "", "0001", ""

    def __init__(self, library, lun):
        self.lib, self.lun = library, lun
        self.attention = [(0x29, 0x00)]
        self.last = bytes(18)
        self.prevent = False
        self.injected = []

    def execute(self, cdb, out):
        status, data, sense = self.perform(cdb, out)
        if self.lib.trace:
            reason = f"{sense[2]:x}/{sense[12]:02x}/{sense[13]:02x}" if sense else ""
            sizes = f"out={len(out)} in={len(data)}"
            print(f"{time.monotonic():.3f} lun {self.lun} {cdb.hex()} {sizes} {status} {reason}", flush=True)
        return status, data, sense

    def perform(self, cdb, out):
        op = cdb[0]
        try:
            for item in self.injected:
                if item[0] == op:
                    item[4] -= 1
                    if item[4] <= 0:
                        self.injected.remove(item)
                    raise Check(*item[1:4])
            if op not in (0x12, 0xA0, 0x03) and self.attention:
                raise Check(ATTENTION, *self.attention.pop(0))
            if self.foreign(cdb):
                return 0x18, b"", b""  # RESERVATION CONFLICT
            method = self.table.get(op)
            if method is None:
                raise Check(ILLEGAL, 0x20)
            return 0, method(self, cdb, out) or b"", b""
        except Check as error:
            self.last = error.sense
            return 2, error.data, error.sense

    def foreign(self, cdb):
        return False

    def request_sense(self, cdb, out):
        if self.attention:
            self.last = Check(ATTENTION, *self.attention.pop(0)).sense
        sense, self.last = self.last, Check(NO_SENSE, 0).sense
        return (sense if any(sense) else self.last)[: cdb[4]]

    def report_luns(self, cdb, out):
        luns = b"".join(struct.pack(">BB6x", 0, n) for n in range(len(self.lib.units)))
        return (struct.pack(">I4x", len(luns)) + luns)[: be(cdb[6:10])]

    def inquiry(self, cdb, out):
        size = be(cdb[3:5])
        if cdb[1] & 1:
            page = cdb[2]
            if page == 0x00:
                body = bytes([0x00, 0x80, 0x83])
            elif page == 0x80:
                body = pad(self.serial, len(self.serial))
            elif page == 0x83:
                naa = struct.pack(">Q", 0x5005076300000000 + self.lun)
                t10 = pad(self.vendor, 8) + pad(self.product, 16) + self.serial.encode()
                body = (bytes([2, 1, 0, len(t10)]) + t10) + (bytes([1, 3, 0, 8]) + naa)
            else:
                raise Check(ILLEGAL, 0x24)
            return (bytes([self.pdt, page]) + struct.pack(">H", len(body)) + body)[:size]
        data = (
            bytes([self.pdt, 0x80, 0x06, 0x02, 91, 0, 0, 0x02])
            + pad(self.vendor, 8)
            + pad(self.product, 16)
            + pad(self.revision, 4)
            + bytes(60)
        )
        return data[:size]

    def test_unit_ready(self, cdb, out):
        self.check_ready()

    def check_ready(self):
        pass

    def prevent_allow(self, cdb, out):
        self.prevent = bool(cdb[4] & 3)

    def nothing(self, cdb, out):
        pass

    def mode_sense(self, cdb, out):
        six = cdb[0] == 0x1A
        page, sub = cdb[2] & 0x3F, cdb[3]
        pages = self.mode_pages()
        if page == 0x3F:
            body = b"".join(pages[p] for p in sorted(pages))
        elif page in pages and sub == 0:
            body = pages[page]
        elif (page, sub) in self.mode_subpages():
            body = self.mode_subpages()[page, sub]
        elif page == 0:
            body = b""
        else:
            raise Check(ILLEGAL, 0x24)
        medium, specific, descriptor = self.mode_header()
        if cdb[1] & 8:
            descriptor = b""
        if six:
            data = bytes([3 + len(descriptor) + len(body), medium, specific, len(descriptor)])
            return (data + descriptor + body)[: cdb[4]]
        data = struct.pack(">HBBHH", 6 + len(descriptor) + len(body), medium, specific, 0, len(descriptor))
        return (data + descriptor + body)[: be(cdb[7:9])]

    def mode_header(self):
        return 0, 0, b""

    def mode_subpages(self):
        return {}

    def mode_select(self, cdb, out):
        six = cdb[0] == 0x15
        head = 4 if six else 8
        if len(out) < head:
            return
        length = out[3] if six else be(out[6:8])
        self.mode_specific(out[2] if six else out[3])
        if length >= 8:
            self.mode_descriptor(out[head : head + 8])
        rest = out[head + length :]
        while len(rest) >= 4:
            if rest[0] & 0x40:
                size = be(rest[2:4]) + 4
                self.mode_subpage(rest[0] & 0x3F, rest[1], rest[:size])
            else:
                size = rest[1] + 2
                self.mode_page(rest[0] & 0x3F, rest[:size])
            rest = rest[size:]

    def mode_specific(self, value):
        pass

    def mode_descriptor(self, data):
        pass

    def mode_page(self, page, data):
        pass

    def mode_subpage(self, page, sub, data):
        pass

    def read_buffer(self, cdb, out):
        """Buffer 1 plays the drive's internal dump."""
        size = 4096
        if cdb[1] & 0x1F == 3:
            return struct.pack(">I", size)
        start = be(cdb[3:6])
        return bytes(max(size - start, 0))[: be(cdb[6:9])]

    def maintenance_in(self, cdb, out):
        """Report supported operation codes: all of them, with timeouts (60 s, an hour for moving tape)."""
        if cdb[1] & 0x1F != 0x0C or cdb[2] & 7:
            raise Check(ILLEGAL, 0x24)
        timed = cdb[2] & 0x80
        body = b""
        for op in sorted(self.table):
            size = (6, 10, 10, 0, 16, 12)[op >> 5] if op >> 5 < 6 else 12
            limit = 60 if op in (0x00, 0x03, 0x12, 0x1A, 0x5A, 0xA0) else 3600
            body += struct.pack(">BxHxBH", op, 0, 2 if timed else 0, size)
            body += struct.pack(">HxxII", 10, 0, limit) if timed else b""
        return (struct.pack(">I", len(body)) + body)[: be(cdb[6:10])]

    table = {
        0x00: test_unit_ready,
        0x03: request_sense,
        0x12: inquiry,
        0xA0: report_luns,
        0x1A: mode_sense,
        0x5A: mode_sense,
        0x15: mode_select,
        0x55: mode_select,
        0x1D: nothing,
        0x16: nothing,
        0x17: nothing,
        0x56: nothing,
        0x57: nothing,
        0x3C: read_buffer,
        0xA3: maintenance_in,
    }


class Changer(Unit):
    pdt, vendor, product, revision = 8, "IBM", "3573-TL", "D.00"

    def __init__(self, library, lun):
        super().__init__(library, lun)
        self.serial = "00X4U78A0001_LL0"

    def mode_pages(self):
        lib = self.lib
        return {
            0x1D: struct.pack(
                ">BBHHHHHHHH2x",
                0x1D,
                18,
                lib.ROBOT,
                1,
                lib.SLOT,
                lib.slots,
                lib.MAIL,
                lib.mail,
                lib.DRIVE,
                len(lib.drives),
            ),
            0x1E: bytes([0x1E, 2, 0, 0]),
            0x1F: bytes([0x1F, 18, 0x0E, 0x00, 0x00, 0x0E, 0x0E, 0x0E])
            + bytes(4)
            + bytes([0x00, 0x0E, 0x0E, 0x0E])
            + bytes(4),
        }

    def read_element_status(self, cdb, out):
        lib = self.lib
        want, voltag, dvcid = cdb[1] & 15, cdb[1] & 0x10, cdb[6] & 1
        start, count = be(cdb[2:4]), be(cdb[4:6])
        pages, total, first = b"", 0, None
        for kind in (1, 2, 3, 4):
            if want not in (0, kind):
                continue
            items = []
            for address in lib.addresses(kind):
                if address < start or total + len(items) >= count:
                    continue
                cart = lib.place.get(address)
                flags = (1 if cart else 0) | (0x08 if kind in (2, 3, 4) else 0) | (0x30 if kind == 3 else 0)
                drive = lib.drive_at(address)
                if kind == 4 and cart and drive.threaded:
                    flags &= ~0x08  # not accessible to the robot while threaded
                source = lib.source.get(address) if cart else None
                item = struct.pack(
                    ">HBBBB3xBH", address, flags, 0, 0, 0, 0x80 if source is not None else 0, source or 0
                )
                if voltag:
                    item += pad(cart.barcode if cart else "", 32) + bytes(4)
                if dvcid:
                    if drive:
                        ident = pad(drive.vendor, 8) + pad(drive.product, 16) + pad(drive.serial, 10)
                        item += bytes([2, 1, 0, len(ident)]) + ident
                    else:
                        item += bytes(4 + 34)
                items.append(item)
                first = address if first is None else min(first, address)
            if items:
                size = len(items[0])
                pages += struct.pack(
                    ">BBHI", kind, 0x80 if voltag else 0, size, size * len(items)
                ) + b"".join(items)
                total += len(items)
        if want not in (0, 1, 2, 3, 4):
            raise Check(ILLEGAL, 0x24)
        return (struct.pack(">HHI", first or 0, total, len(pages)) + pages)[: be(cdb[7:10])]

    def check_move(self, src, dst, leaving=()):
        lib = self.lib
        known = {a for k in (2, 3, 4) for a in lib.addresses(k)}
        if src not in known or dst not in known:
            raise Check(ILLEGAL, 0x21, 0x01)
        if not lib.place.get(src):
            raise Check(ILLEGAL, 0x3B, 0x0E)
        if lib.place.get(dst) and dst not in leaving:
            raise Check(ILLEGAL, 0x3B, 0x0D)
        drive = lib.drive_at(src)
        if drive:
            if drive.prevent:
                raise Check(ILLEGAL, 0x53, 0x02)
            if drive.threaded and not lib.auto_unload:
                raise Check(ILLEGAL, 0x3A, 0x00)

    def relocate(self, src, dst, cart):
        lib = self.lib
        home = lib.source.get(src) if src in lib.addresses(4) else src
        if dst in lib.addresses(4):
            lib.source[dst] = home if home is not None else src
            lib.drive_at(dst).insert(cart)
        else:
            lib.source[dst] = src
        lib.place[dst] = cart

    def take(self, address):
        drive = self.lib.drive_at(address)
        if drive:
            drive.remove()
        return self.lib.place.pop(address)

    def move(self, cdb, out):
        src, dst = be(cdb[4:6]), be(cdb[6:8])
        self.check_move(src, dst)
        time.sleep(self.lib.latency["move"])
        self.relocate(src, dst, self.take(src))

    def exchange(self, cdb, out):
        src, dst, dst2 = be(cdb[4:6]), be(cdb[6:8]), be(cdb[8:10])
        self.check_move(src, dst, (dst,))
        self.check_move(dst, dst2, (src,))
        time.sleep(2 * self.lib.latency["move"])
        a, b = self.take(src), self.take(dst)
        self.relocate(src, dst, a)
        self.relocate(dst, dst2, b)

    def initialize(self, cdb, out):
        time.sleep(self.lib.latency["move"])

    def log_sense(self, cdb, out):
        return log_page(cdb, {0x2E: [(n, 1, 0) for n in range(1, 33)]})

    table = dict(Unit.table)
    table.update(
        {
            0xB8: read_element_status,
            0xA5: move,
            0xA6: exchange,
            0x07: initialize,
            0x37: initialize,
            0xE7: initialize,
            0x2B: Unit.nothing,
            0x1E: Unit.prevent_allow,
            0x4D: log_sense,
        }
    )


def log_page(cdb, pages):
    page = cdb[2] & 0x3F
    if page == 0:
        body = bytes(sorted([0, *pages]))
    elif page in pages:
        body = b"".join(
            struct.pack(">HBB", code, 0x03 if page in (0x17, 0x30, 0x31) else 0, size)
            + int(value).to_bytes(size, "big")
            for code, size, value in pages[page]
        )
    else:
        raise Check(ILLEGAL, 0x24)
    return (struct.pack(">BBH", page, 0, len(body)) + body)[: be(cdb[7:9])]


class Drive(Unit):
    pdt, vendor, product, revision = 1, "IBM", "ULT3580-TD8", "J4D1"

    def __init__(self, library, lun, index):
        super().__init__(library, lun)
        self.index, self.serial = index, f"10WT{index + 1:06}"
        self.cart, self.threaded, self.ready_at = None, False, 0.0
        self.part = self.pos = 0
        self.block, self.compress, self.buffered = 0, True, 0x10
        self.alerts = set()
        self.new_parts = 0
        self.warning = 0  # programmable early warning size, in MB (10^6 bytes)
        self.append_only = False
        self.overwrite = None  # position released by ALLOW OVERWRITE
        self.keys, self.holder = set(), None  # persistent reservation; holder "other" is another host

    # cartridge handling, called by the changer
    def insert(self, cart):
        self.cart, self.threaded = cart, True
        self.part = self.pos = 0
        self.ready_at = time.monotonic() + self.lib.latency["load"]
        cart.loads += 1
        if cart.kind == "data":
            self.attention.append((0x28, 0x00))

    def remove(self):
        self.cart, self.threaded = None, False
        self.attention = [a for a in self.attention if a != (0x28, 0x00)]

    def check_ready(self):
        if not self.cart or not self.threaded:
            raise Check(NOT_READY, 0x3A, 0x00)
        if self.cart.kind == "clean":
            raise Check(NOT_READY, 0x30, 0x03)
        if time.monotonic() < self.ready_at:
            raise Check(NOT_READY, 0x04, 0x01)

    def foreign(self, cdb):
        return (
            self.holder == "other"
            and cdb[0] not in (0x12, 0xA0, 0x03, 0x5E, 0xA3)
            and not (cdb[0] == 0x5F and cdb[1] & 0x1F != 1)
        )

    def perform(self, cdb, out):
        # The unit attention of a load is there when loading ends; until then the drive is not ready.
        if self.attention[:1] == [(0x28, 0x00)] and time.monotonic() < self.ready_at:
            waiting, self.attention = self.attention, []
            try:
                return super().perform(cdb, out)
            finally:
                self.attention = waiting + self.attention
        return super().perform(cdb, out)

    @property
    def records(self):
        return self.cart.parts[self.part]

    def mode_header(self):
        loaded = self.cart and self.threaded and self.cart.kind == "data"
        specific = self.buffered | (0x80 if loaded and self.cart.protected else 0)
        density = 0x5E if loaded else 0
        return (0x88 if loaded else 0), specific, bytes([density, 0, 0, 0, 0]) + self.block.to_bytes(3, "big")

    def mode_pages(self):
        parts = len(self.cart.parts) if self.cart else 1
        caps = (
            b"".join(
                struct.pack(">H", min(0xFFFF, self.cart.part_capacity(n) >> 20) if n < parts else 0)
                for n in range(2)
            )
            if self.cart
            else bytes(4)
        )
        return {
            0x0F: struct.pack(">BBBBII4x", 0x0F, 14, 0xC0 if self.compress else 0x40, 0x80, 1, 1),
            0x10: bytes(
                [0x10, 14, 0, self.part, 0, 0, 0, 0, 0x48, 0, 0, 0, 0, 0, 0x01 if self.compress else 0, 0]
            ),
            0x11: bytes([0x11, 6 + len(caps), 1, parts - 1, 0x34, 3, 9, 0]) + caps,
            0x1C: bytes([0x1C, 10, 0, 3]) + bytes(8),
        }

    def mode_subpages(self):
        extension = struct.pack(
            ">BBHBBH24x", 0x50, 0x01, 28, 0, 0x10 if self.append_only else 0, self.warning
        )
        protection = struct.pack(">BBH28x", 0x4A, 0xF0, 28)  # logical block protection: off
        return {(0x10, 0x01): extension, (0x0A, 0xF0): protection}

    def mode_subpage(self, page, sub, data):
        if (page, sub) == (0x10, 0x01):
            append = bool(data[5] & 0xF0)
            if self.append_only and not append and self.cart and self.threaded:
                raise Check(ILLEGAL, 0x26, 0x00)
            self.append_only, self.warning = append, be(data[6:8])
        elif (page, sub) == (0x0A, 0xF0) and data[4]:
            raise Check(ILLEGAL, 0x26, 0x00)

    def mode_specific(self, value):
        self.buffered = value & 0x70

    def mode_descriptor(self, data):
        self.block = be(data[5:8])

    def mode_page(self, page, data):
        if page == 0x0F:
            self.compress = bool(data[2] & 0x80)
        elif page == 0x10:
            if len(data) > 14:
                self.compress = bool(data[14])
        elif page == 0x11:
            self.new_parts = data[3] + 1
            if data[4] & 0x20 and self.cart:  # POFM clear: partition at once
                return

    # medium access
    def read_limits(self, cdb, out):
        return b"\0" + (8388608).to_bytes(3, "big") + b"\0\x01"

    def rewind(self, cdb, out):
        self.check_ready()
        time.sleep(self.lib.latency["rewind"])
        self.pos = 0

    def read(self, cdb, out):
        self.check_ready()
        fixed, sili, length = cdb[1] & 1, cdb[1] & 2, be(cdb[2:5])
        if fixed and not self.block:
            raise Check(ILLEGAL, 0x24)
        data, want = [], length if fixed else 1
        for done in range(want):
            left = (length - done) if fixed else length
            if self.pos >= len(self.records):
                raise Check(BLANK, 0x00, 0x05, left, data=b"".join(data))
            record = self.records[self.pos]
            self.pos += 1
            if record is None:
                raise Check(NO_SENSE, 0x00, 0x01, left, FM, b"".join(data))
            size = self.block if fixed else length
            self.cart.read += len(record)
            data.append(record[:size])
            if len(record) != size and not (sili and not fixed and len(record) < size):
                info = left if fixed else size - len(record)
                raise Check(NO_SENSE, 0x00, 0x00, info, ILI, b"".join(data))
        return b"".join(data)

    def writable(self):
        """May be written here? If so, what follows the position is gone."""
        self.check_ready()
        if self.cart.protected:
            raise Check(PROTECT, 0x27, 0x00)
        here = (self.part, self.pos)
        if self.append_only and self.pos < len(self.records) and self.overwrite != here:
            raise Check(PROTECT, 0x5A, 0x02)
        self.overwrite = None

    def truncate(self):
        records = self.records
        if self.pos < len(records):
            for old in records[self.pos :]:
                self.cart.used[self.part] -= len(old or b"")
            del records[self.pos :]
        self.cart.changes += 1

    def before(self):
        """Bytes before the position."""
        if self.pos == len(self.records):
            return self.cart.used[self.part]
        return sum(len(r) for r in self.records[: self.pos] if r)

    def zone(self, used):
        """0: far from the end of the partition, 1: in the programmable early warning zone, 2: past early warning."""
        limit = self.cart.part_capacity(self.part)
        early = limit - max(limit // 50, 1)
        return 2 if used > early else 1 if self.warning and used > early - self.warning * 1000000 else 0

    def warn(self, zone):
        """Report early warning after a write that began in this zone."""
        now = self.zone(self.cart.used[self.part])
        if now == 2:
            raise Check(NO_SENSE, 0x00, 0x02, 0, EOM)
        if now == 1 and zone == 0:
            raise Check(NO_SENSE, 0x00, 0x07, 0, EOM)

    def append(self, record):
        self.records.append(record)
        self.pos += 1
        self.cart.used[self.part] += len(record or b"")
        self.cart.written += len(record or b"")

    def write(self, cdb, out):
        self.writable()
        fixed, length = cdb[1] & 1, be(cdb[2:5])
        size = self.block if fixed else length
        if not size:
            return
        blocks = [out[n : n + size] for n in range(0, len(out), size)]
        limit = self.cart.part_capacity(self.part)
        self.truncate()
        zone = self.zone(self.cart.used[self.part])
        for done, block in enumerate(blocks):
            left = (len(blocks) - done) if fixed else size
            if self.cart.used[self.part] + len(block) > limit:
                raise Check(OVERFLOW, 0x00, 0x02, left, EOM)
            self.append(block)
        self.warn(zone)

    def write_filemarks(self, cdb, out):
        count = be(cdb[2:5])
        if not count:
            self.check_ready()
            return
        self.writable()
        self.truncate()
        zone = self.zone(self.cart.used[self.part])
        for _ in range(count):
            self.append(None)
        self.warn(zone)

    def space(self, cdb, out):
        self.check_ready()
        code = cdb[1] & 15
        if cdb[0] == 0x91:
            count = int.from_bytes(cdb[4:12], "big", signed=True)
        else:
            count = int.from_bytes(cdb[2:5], "big", signed=True)
        time.sleep(self.lib.latency["locate"])
        if code == 3:
            self.pos = len(self.records)
            return
        if code not in (0, 1):
            raise Check(ILLEGAL, 0x24)
        step, left = (1 if count > 0 else -1), abs(count)
        while left:
            at = self.pos if step > 0 else self.pos - 1
            if at >= len(self.records):
                raise Check(BLANK, 0x00, 0x05, left)
            if at < 0:
                raise Check(NO_SENSE, 0x00, 0x04, left, EOM)
            mark = self.records[at] is None
            self.pos += step
            if code == 0 and mark:
                raise Check(NO_SENSE, 0x00, 0x01, left, FM)
            if code == 0 or mark:
                left -= 1

    def locate(self, cdb, out):
        self.check_ready()
        if cdb[0] == 0x92:
            change, part, block, kind = cdb[1] & 2, cdb[3], be(cdb[4:12]), (cdb[1] >> 3) & 7
        else:
            change, part, block, kind = cdb[1] & 2, cdb[8], be(cdb[3:7]), 0
        if change:
            if part >= len(self.cart.parts):
                raise Check(ILLEGAL, 0x24)
            self.part = part
        time.sleep(self.lib.latency["locate"])
        if kind == 3:
            block = len(self.records)
        elif kind == 1:
            marks = [n for n, r in enumerate(self.records) if r is None]
            block = (
                0 if block == 0 else marks[block - 1] + 1 if block <= len(marks) else len(self.records) + 1
            )
        if block > len(self.records):
            self.pos = len(self.records)
            raise Check(BLANK, 0x00, 0x05)
        self.pos = block

    def read_position(self, cdb, out):
        self.check_ready()
        action = cdb[1] & 0x1F
        zone = self.zone(self.before())
        flags = (0x80 if self.pos == 0 else 0) | (0x40 if zone == 2 else 0) | (0x01 if zone else 0)
        if action in (0, 1):
            return struct.pack(">BB2xII8x", flags, self.part, self.pos, self.pos)
        if action == 6:
            marks = sum(1 for r in self.records[: self.pos] if r is None)
            return struct.pack(">B3xIQQQ", flags, self.part, self.pos, marks, 0)
        if action == 8:
            return struct.pack(">BBH4xQQQ", flags, self.part, 28, self.pos, self.pos, 0)[: be(cdb[7:9]) or 32]
        raise Check(ILLEGAL, 0x24)

    def erase(self, cdb, out):
        self.writable()
        time.sleep(self.lib.latency["erase"])
        self.truncate()

    def load_unload(self, cdb, out):
        if cdb[4] & 1:
            if not self.cart:
                raise Check(NOT_READY, 0x3A, 0x00)
            if not self.threaded:
                time.sleep(self.lib.latency["load"])
                self.threaded = True
            self.pos = self.part = 0
            return
        if self.cart and self.threaded:
            if self.prevent:
                raise Check(ILLEGAL, 0x53, 0x02)
            time.sleep(self.lib.latency["unload"])
            self.threaded, self.pos, self.part = False, 0, 0

    def format_medium(self, cdb, out):
        self.writable()
        if self.pos or self.part:
            raise Check(ILLEGAL, 0x3B, 0x0C)
        time.sleep(self.lib.latency["format"])
        self.cart.format(self.new_parts if cdb[2] & 15 in (1, 2) and self.new_parts else 1)

    def density_report(self, cdb, out):
        item = (
            bytes([0x5E, 0x5E, 0xA0, 0, 0])
            + (20668).to_bytes(3, "big")
            + struct.pack(">HHI", 127, 6656, 12000000)
            + pad("LTO-CVE", 8)
            + pad("U-832", 8)
            + pad("Ultrium 8/32T", 20)
        )
        return (struct.pack(">H2x", len(item) + 2) + item)[: be(cdb[7:9])]

    def log_sense(self, cdb, out):
        cart = self.cart
        pages = {
            0x2E: [(n, 1, 1 if n in self.alerts else 0) for n in range(1, 65)],
            0x02: [
                (0, 4, 0),
                (1, 4, 0),
                (2, 4, 0),
                (3, 4, 0),
                (4, 4, 0),
                (5, 8, cart.written if cart else 0),
                (6, 4, 0),
            ],
            0x03: [
                (0, 4, 0),
                (1, 4, 0),
                (2, 4, 0),
                (3, 4, 0),
                (4, 4, 0),
                (5, 8, cart.read if cart else 0),
                (6, 4, 0),
            ],
        }
        if cart and cart.kind == "data":
            pages[0x30] = [
                (1, 4, cart.loads),
                (2, 8, cart.written >> 12),
                (3, 4, 0),
                (4, 2, 0),
                (5, 2, 0),
                (6, 2, 0),
                (7, 8, cart.read >> 12),
                (8, 4, 0),
                (9, 2, 0),
                (10, 2, 0),
                (11, 2, 0),
            ]
            caps = [(cart.part_capacity(n) - cart.used[n]) >> 20 for n in range(len(cart.parts))] + [0]
            tops = [cart.part_capacity(n) >> 20 for n in range(len(cart.parts))] + [0]
            pages[0x31] = [(1, 4, caps[0]), (2, 4, caps[1]), (3, 4, tops[0]), (4, 4, tops[1])]
            # Volume statistics and, with one record for each partition, capacities in MB (10^6 bytes).
            written, read = cart.written // 1000000, cart.read // 1000000
            pages[0x17] = [
                (0, 1, 1),
                (1, 4, cart.loads),
                (2, 8, cart.written >> 12),
                (3, 4, 0),
                (4, 2, 0),
                (7, 8, cart.read >> 12),
                (8, 4, 0),
                (9, 2, 0),
                (12, 2, 0),
                (13, 2, 0),
                (16, 8, written),
                (17, 8, read),
                (0x101, 4, cart.loads),
                (0x102, 4, cart.loads),
            ]
            parts = range(len(cart.parts))
            for code, values in (
                (0x202, [cart.part_capacity(n) for n in parts]),
                (0x203, cart.used),
                (0x204, [cart.part_capacity(n) - cart.used[n] for n in parts]),
            ):
                records = b"".join(struct.pack(">BxHI", 7, n, values[n] // 1000000) for n in parts)
                pages[0x17].append((code, len(records), be(records)))
            pages[0x37] = [(1, 1, 0xFF)]  # vendor page: medium efficiency
        data = log_page(cdb, pages)
        if cdb[2] & 0x3F == 0x2E and be(cdb[7:9]) > 4:
            self.alerts.clear()  # reading the flags clears them
        return data

    def attributes(self, part):
        cart = self.cart
        size, used = cart.part_capacity(part) >> 20, cart.used[part] >> 20
        fixed = {
            0x0000: (0, size - used, 8),
            0x0001: (0, size, 8),
            0x0002: (0, 0, 8),
            0x0003: (0, cart.loads, 8),
            0x0004: (0, 1012, 8),
            0x0005: (1, "LTO-CVE", 8),
            0x0006: (0, 0x5E, 1),
            0x0007: (0, 1, 2),
            0x0009: (0, cart.changes, 4),
            0x020A: (1, "IBM     " + self.serial, 40),
            0x0220: (0, cart.written >> 20, 8),
            0x0221: (0, cart.read >> 20, 8),
            0x0222: (0, cart.written >> 20, 8),
            0x0223: (0, cart.read >> 20, 8),
            0x0400: (1, "FUJIFILM", 8),
            0x0401: (1, "S" + cart.barcode, 32),
            0x0402: (0, 960, 4),
            0x0403: (0, 127, 4),
            0x0404: (1, "LTO-CVE", 8),
            0x0405: (0, 0x5E, 1),
            0x0406: (1, "20240101", 8),
            0x0407: (0, 16352, 8),
            0x0408: (0, 0, 1),
            0x0409: (0, 0, 2),
        }
        result = {}
        for code, (kind, value, length) in fixed.items():
            raw = pad(value, length) if kind == 1 else int(value).to_bytes(length, "big")
            result[code] = struct.pack(">HBH", code, 0x80 | kind, length) + raw
        for (where, code), raw in cart.host.items():
            if where == self.attribute_place(part, code)[0]:
                result[code] = raw
        return result

    @staticmethod
    def attribute_place(part, code):
        return (part if code == Cartridge.COHERENCY else 0), code

    def read_attribute(self, cdb, out):
        self.check_ready()
        action, part, first, size = cdb[1] & 0x1F, cdb[7], be(cdb[8:10]), be(cdb[10:14])
        if part >= len(self.cart.parts):
            raise Check(ILLEGAL, 0x24)
        found = {c: raw for c, raw in self.attributes(part).items() if c >= first}
        if action == 0:
            if not found:
                raise Check(ILLEGAL, 0x24)
            body = b"".join(found[c] for c in sorted(found))
        elif action == 1:
            body = b"".join(struct.pack(">H", c) for c in sorted(found))
        elif action == 3:
            body = bytes([0, len(self.cart.parts)])
            return (struct.pack(">H", len(body)) + body)[:size]
        else:
            raise Check(ILLEGAL, 0x24)
        return (struct.pack(">I", len(body)) + body)[:size]

    def write_attribute(self, cdb, out):
        self.check_ready()
        part = cdb[7]
        if part >= len(self.cart.parts):
            raise Check(ILLEGAL, 0x24)
        rest = out[4 : 4 + be(out[:4])]
        while len(rest) >= 5:
            length = be(rest[3:5])
            place = self.attribute_place(part, be(rest[:2]))
            if length:
                self.cart.host[place] = (
                    struct.pack(">HBH", place[1], rest[2] & 3, length) + rest[5 : 5 + length]
                )
            else:
                self.cart.host.pop(place, None)
            rest = rest[5 + length :]

    def allow_overwrite(self, cdb, out):
        self.check_ready()
        if not self.append_only:
            raise Check(ILLEGAL, 0x20, 0x0C)
        if cdb[2] & 15 == 1 and (cdb[3], be(cdb[4:12])) != (self.part, self.pos):
            raise Check(ILLEGAL, 0x3B, 0x00)
        self.overwrite = (self.part, self.pos) if cdb[2] & 15 else None

    # persistent reservations: one initiator, and the other host of the "reserve" request
    OTHER = bytes.fromhex("40000000c0000207")  # as LTFS makes it from the address 192.0.2.7

    def reserve_in(self, cdb, out):
        action = cdb[1] & 0x1F
        keys = sorted(self.keys | ({self.OTHER} if self.holder == "other" else set()))
        held = self.OTHER if self.holder == "other" else self.holder
        if action == 0:
            body = b"".join(keys)
        elif action == 1:
            body = struct.pack(">8s5xB2x", held, 0x03) if held else b""
        elif action == 3:
            body = b"".join(
                struct.pack(">8s4xBB4xHI24x", key, key == held, 0x03 if key == held else 0, 1, 24)
                for key in keys
            )
        else:
            raise Check(ILLEGAL, 0x24)
        return (struct.pack(">II", 0, len(body)) + body)[: be(cdb[7:9])]

    def reserve_out(self, cdb, out):
        action, key, new = cdb[1] & 0x1F, out[:8], out[8:16]
        if action in (0, 6):  # register
            self.keys = {new} if any(new) else set()
            if not self.keys and self.holder != "other":
                self.holder = None
        elif action == 1:
            self.holder = key
        elif action == 3 or (action == 2 and self.holder == key):  # clear, release
            self.holder = None
        elif action in (4, 5):  # preempt
            self.holder = key

    table = dict(Unit.table)
    table.update(
        {
            0x01: rewind,
            0x04: format_medium,
            0x05: read_limits,
            0x08: read,
            0x0A: write,
            0x10: write_filemarks,
            0x11: space,
            0x91: space,
            0x19: erase,
            0x1B: load_unload,
            0x1E: Unit.prevent_allow,
            0x2B: locate,
            0x92: locate,
            0x34: read_position,
            0x44: density_report,
            0x4D: log_sense,
            0x8C: read_attribute,
            0x8D: write_attribute,
            0x0B: Unit.nothing,
            0x82: allow_overwrite,
            0x5E: reserve_in,
            0x5F: reserve_out,
        }
    )


class Library:
    ROBOT, MAIL, DRIVE, SLOT = 1, 16, 256, 4096

    def __init__(self, opts):
        self.slots, self.mail = opts.slots, opts.mail
        self.auto_unload = opts.auto_unload
        self.latency = {name: getattr(opts, name) for name in LATENCIES}
        self.trace = opts.trace
        self.place, self.source = {}, {}
        order = list(range(opts.drives))
        self.drives = [Drive(self, n + 1, n) for n in order]
        self.units = [Changer(self, 0), *self.drives]
        if opts.swap:
            order.reverse()
        self.by_address = {self.DRIVE + n: self.drives[i] for n, i in enumerate(order)}
        for n in range(opts.tapes):
            self.place[self.SLOT + n] = Cartridge(f"A{n + 1:05}L8", opts.capacity << 20)
        if opts.cleaning and opts.slots > opts.tapes:
            self.place[self.SLOT + opts.slots - 1] = Cartridge("CLNU01L1", 0, "clean")

    def addresses(self, kind):
        start, count = {
            1: (self.ROBOT, 1),
            2: (self.SLOT, self.slots),
            3: (self.MAIL, self.mail),
            4: (self.DRIVE, len(self.drives)),
        }[kind]
        return range(start, start + count)

    def drive_at(self, address):
        return self.by_address.get(address)

    def cartridge(self, barcode):
        for cart in self.place.values():
            if cart.barcode == barcode:
                return cart
        raise ValueError("no cartridge " + barcode)

    def control(self, words):
        verb, args = words[0], words[1:]
        if verb == "state":
            lines = [f"{a} {c.barcode}" for a, c in sorted(self.place.items())]
            lines += [
                f"drive {d.index} {d.cart.barcode if d.cart else '-'} threaded={d.threaded:d} pos={d.part}/{d.pos}"
                for d in self.drives
            ]
            return "\n".join(lines)
        if verb == "protect":
            self.cartridge(args[0]).protected = args[1] == "on"
        elif verb == "alert":
            alerts = self.by_address[self.DRIVE + int(args[0])].alerts
            (alerts.add if args[2] == "on" else alerts.discard)(int(args[1]))
        elif verb == "reserve":
            self.by_address[self.DRIVE + int(args[0])].holder = "other" if args[1] == "on" else None
        elif verb == "trace":
            self.trace = args[0] == "on"
        elif verb == "latency":
            if args[0] not in self.latency:
                raise ValueError("unknown step " + args[0])
            self.latency[args[0]] = float(args[1])
        elif verb == "flip":
            marker = bytes.fromhex(args[1])
            parts = self.cartridge(args[0]).parts
            part, place = next(
                (part, place)
                for part in parts
                for place, record in enumerate(part)
                if record and marker in record
            )
            changed = bytearray(part[place])
            changed[changed.index(marker)] ^= 0xFF
            part[place] = bytes(changed)
        elif verb == "blank":
            cartridge = self.cartridge(args[0])
            cartridge.format(1)
            cartridge.host.clear()
            if len(args) > 1:
                cartridge.capacity = int(args[1]) << 20
            for drive in self.drives:
                if drive.cart is cartridge:
                    drive.part = drive.pos = 0
        elif verb == "ua":
            self.units[int(args[0])].attention.append((int(args[1], 16), int(args[2], 16)))
        elif verb == "inject":
            numbers = [int(a, 16) for a in args[1:5]]
            self.units[int(args[0])].injected.append([*numbers, int(args[5]) if len(args) > 5 else 1])
        else:
            raise ValueError("unknown request " + verb)
        return "ok"


class Session:
    """One iSCSI connection; each unit executes its commands on a thread of its own."""

    BURST = 262144

    def __init__(self, sock, library, target):
        self.sock, self.lib, self.target = sock, library, target
        self.lock = threading.Lock()
        self.stat_sn = 1
        self.exp_cmd_sn = 1
        self.max_data = 8192
        self.pending = {}
        self.queues = {}
        self.next_tag = 1

    def recv(self, size):
        data = bytearray()
        while len(data) < size:
            chunk = self.sock.recv(size - len(data))
            if not chunk:
                raise ConnectionError("closed")
            data += chunk
        return bytes(data)

    def send(self, header, data=b"", status=False):
        with self.lock:
            header = bytearray(header)
            header[5:8] = len(data).to_bytes(3, "big")
            struct.pack_into(">III", header, 24, self.stat_sn, self.exp_cmd_sn, self.exp_cmd_sn + 31)
            if status:
                self.stat_sn = (self.stat_sn + 1) & 0xFFFFFFFF
            self.sock.sendall(bytes(header) + data + bytes(-len(data) % 4))

    def run(self):
        while True:
            header = self.recv(48)
            extra, size = header[4] * 4, be(header[5:8])
            self.recv(extra)
            data = self.recv(size + (-size % 4))[:size]
            op = header[0] & 0x3F
            if op in (0x01, 0x04, 0x00, 0x02, 0x06) and not header[0] & 0x40:
                self.exp_cmd_sn = (be(header[24:28]) + 1) & 0xFFFFFFFF
            handler = {
                0x00: self.nop,
                0x01: self.command,
                0x02: self.task,
                0x03: self.login,
                0x04: self.text,
                0x05: self.data_out,
                0x06: self.logout,
            }.get(op)
            if handler is None or handler(header, data) is False:
                return

    def login(self, header, data):
        self.exp_cmd_sn = be(header[24:28])
        pairs = dict(item.split("=", 1) for item in data.decode().split("\0") if "=" in item)
        stage, following = (header[1] >> 2) & 3, header[1] & 3
        answer = {}
        fixed = {
            "HeaderDigest": "None",
            "DataDigest": "None",
            "InitialR2T": "Yes",
            "ImmediateData": "Yes",
            "MaxConnections": "1",
            "MaxOutstandingR2T": "1",
            "ErrorRecoveryLevel": "0",
            "IFMarker": "No",
            "OFMarker": "No",
            "DataPDUInOrder": "Yes",
            "DataSequenceInOrder": "Yes",
            "AuthMethod": "None",
            "DefaultTime2Wait": "2",
            "DefaultTime2Retain": "0",
        }
        for key, value in pairs.items():
            if key in fixed:
                answer[key] = fixed[key]
            elif key == "MaxRecvDataSegmentLength":
                self.max_data = min(int(value), self.BURST)
                answer[key] = str(self.BURST)
            elif key in ("MaxBurstLength", "FirstBurstLength"):
                answer[key] = str(min(int(value), self.BURST))
        if "TargetName" in pairs and pairs.get("SessionType") != "Discovery":
            answer["TargetPortalGroupTag"] = "1"
        reply = bytearray(48)
        reply[0], reply[1] = 0x23, (header[1] & 0x80) | (stage << 2) | (following if header[1] & 0x80 else 0)
        reply[8:14] = header[8:14]
        reply[14:16] = b"\0\1"
        reply[16:20] = header[16:20]
        self.send(reply, "".join("{}={}\0".format(*i) for i in answer.items()).encode(), True)

    def text(self, header, data):
        reply = bytearray(48)
        reply[0], reply[1], reply[16:20], reply[20:24] = 0x24, 0x80, header[16:20], b"\xff" * 4
        self.send(reply, (f"TargetName={self.target}\0TargetAddress=127.0.0.1:3260,1\0").encode(), True)

    def nop(self, header, data):
        if header[16:20] != b"\xff" * 4:
            reply = bytearray(48)
            reply[0], reply[1], reply[8:16], reply[16:20], reply[20:24] = (
                0x20,
                0x80,
                header[8:16],
                header[16:20],
                b"\xff" * 4,
            )
            self.send(reply, data, True)

    def task(self, header, data):
        reply = bytearray(48)
        reply[0], reply[1], reply[16:20] = 0x22, 0x80, header[16:20]
        self.send(reply, b"", True)

    def logout(self, header, data):
        reply = bytearray(48)
        reply[0], reply[1], reply[16:20] = 0x26, 0x80, header[16:20]
        self.send(reply, b"", True)
        return False

    def command(self, header, data):
        state = {
            "header": header,
            "out": bytearray(data),
            "want": be(header[20:24]) if header[1] & 0x20 else 0,
        }
        self.advance(state)

    def advance(self, state):
        header, have = state["header"], len(state["out"])
        if have < state["want"]:
            tag, self.next_tag = self.next_tag, self.next_tag + 1
            self.pending[tag] = state
            reply = bytearray(48)
            reply[0], reply[1], reply[8:16], reply[16:20] = 0x31, 0x80, header[8:16], header[16:20]
            struct.pack_into(">I", reply, 20, tag)
            state["r2t"] = state.get("r2t", -1) + 1
            struct.pack_into(">III", reply, 36, state["r2t"], have, min(self.BURST, state["want"] - have))
            self.send(reply)
            return
        lun = header[9]
        if lun not in self.queues:
            self.queues[lun] = queue.Queue()
            threading.Thread(target=self.worker, args=(self.queues[lun],), daemon=True).start()
        self.queues[lun].put(state)

    def data_out(self, header, data):
        state = self.pending[be(header[20:24])]
        offset = be(header[40:44])
        state["out"][offset : offset + len(data)] = data
        if header[1] & 0x80:
            del self.pending[be(header[20:24])]
            self.advance(state)

    def worker(self, jobs):
        while True:
            state = jobs.get()
            try:
                self.respond(state)
            except OSError:
                return

    def respond(self, state):
        header = state["header"]
        lun, cdb, expected = header[9], header[32:48], be(header[20:24])
        if lun < len(self.lib.units):
            unit = self.lib.units[lun]
            status, data, sense = unit.execute(cdb, bytes(state["out"]))
        elif cdb[0] == 0x12:
            status, data, sense = 0, (b"\x7f" + bytes(35))[: cdb[4]], b""
        else:
            status, data, sense = 2, b"", Check(ILLEGAL, 0x25).sense
        sent = 0
        if header[1] & 0x40:
            for offset in range(0, min(len(data), expected), self.max_data):
                part = data[offset : min(offset + self.max_data, expected)]
                reply = bytearray(48)
                reply[0], reply[8:16], reply[16:20], reply[20:24] = (
                    0x25,
                    header[8:16],
                    header[16:20],
                    b"\xff" * 4,
                )
                reply[1] = 0x80 if offset + len(part) >= min(len(data), expected) else 0
                struct.pack_into(">II", reply, 36, sent, offset)
                self.send(reply, part)
                sent += 1
        done = len(data) if header[1] & 0x40 else (len(state["out"]) if header[1] & 0x20 else 0)
        reply = bytearray(48)
        reply[0], reply[1], reply[3], reply[16:20] = 0x21, 0x80, status, header[16:20]
        if done < expected:
            reply[1] |= 0x02
        elif done > expected and header[1] & 0x40:
            reply[1] |= 0x04
        struct.pack_into(">I4xI", reply, 36, sent, abs(expected - done))
        self.send(reply, struct.pack(">H", len(sense)) + sense if sense else b"", True)


def serve_control(library, path):
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen(4)
    while True:
        conn, _ = server.accept()
        with conn:
            try:
                answer = library.control(conn.recv(4096).decode().split())
            except (ValueError, IndexError, StopIteration) as error:
                answer = f"error: {error}"
            conn.sendall((answer + "\n").encode())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--target", default="iqn.2024-01.test.tapevm:library")
    parser.add_argument("--port", type=int, default=3260)
    parser.add_argument("--control", default="/run/library/control")
    parser.add_argument("--request", nargs="+", help="send a request to a running library")
    for name, value in (
        ("drives", 2),
        ("slots", 10),
        ("mail", 1),
        ("tapes", 6),
        ("capacity", 256),
        ("cleaning", 1),
        ("swap", 0),
        ("auto-unload", 1),
        ("trace", 0),
    ):
        parser.add_argument("--" + name, type=int, default=value)
    for name in LATENCIES:
        parser.add_argument("--" + name, type=float, default=0.0, help="seconds")
    opts = parser.parse_args()
    if opts.request:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(opts.control)
            client.sendall(" ".join(opts.request).encode())
            answer = client.recv(65536).decode()
        sys.stdout.write(answer)
        return 1 if answer.startswith("error") else 0
    library = Library(opts)
    threading.Thread(target=serve_control, args=(library, opts.control), daemon=True).start()
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("127.0.0.1", opts.port))
    server.listen(4)
    print("ready", flush=True)
    while True:
        conn, _ = server.accept()
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def serve(sock):
            try:
                Session(sock, library, opts.target).run()
            except (ConnectionError, OSError):
                pass
            finally:
                sock.close()

        threading.Thread(target=serve, args=(conn,), daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
