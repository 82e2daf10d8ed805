"""
What the LTFS programs say on stderr.

A line is ``LTFS<number><level> <text>``; ``ltfs`` alone puts its thread id in hex first. Numbers, levels and the texts that drivers read
are those of the reference implementation 2.4.8; the level letter is not a verdict (17037E appears in every successful repair).
"""

import contextlib
import os
import threading
from types import MappingProxyType

TEXTS = MappingProxyType(
    {
        # ltfs: start and mount
        "14000I": "LTFS starting, LTFS version {version}, log level 2.",
        "14058I": "LTFS Format Specification version {format}.",
        "14063I": 'Sync type is "{type}".',
        "14064I": 'Sync type is "{type}", Sync time is {seconds} sec.',
        "14061E": "Unknown type of sync ({type}).",
        "14095I": "Set the tape device write-anywhere mode to avoid cartridge ejection.",
        "17157I": "Changing the drive setting to write-anywhere mode.",
        "14094E": "Cannot get mount point ({code}).",
        "14123W": "The main function of FUSE returned error ({code}).",
        "14013E": "Cannot mount the volume.",
        "14075E": "Cannot set up tape drive.",
        "14111I": "Initial setup completed successfully.",
        "14112I": "Invoke 'mount' command to check the result of final setup.",
        "14113I": "Specified mount point is listed if succeeded.",
        "14029I": "Ready to receive file system requests.",
        "14116E": "This medium is not supported (write once).",
        "14073I": "The index partition has no space. Mounting as read-only.",
        "14074I": "The data partition has no space. Mounting as read-only.",
        "14078I": "An older generation is mounted. Mounting as read-only.",
        "14019I": "Medium is write protected or had a write error. Mounting as read-only.",
        "14071I": "Medium has no space to write data. Mounting as read-only.",
        "14072I": "Mounting an older generation as read-only.",
        "14022E": "Cannot flush file data to the medium. Data might be lost ({where}).",
        "11005I": "Mounting the volume.",
        "11031I": "Volume mounted successfully. {serial} : Gen = {generation} / (a, {a_block}) -> (b, {b_block}) / {drive}.",
        "17227I": "Tape attribute: Vendor = {vendor}.",
        "17228I": "Tape attribute: Volume name = {name}, barcode = {barcode}.",
        "11022I": "Restoring volume consistency by writing an index to the index partition.",
        "11026I": "Performing a full medium consistency check.",
        "11016W": "Cartridge memory does not agree with the index partition.",
        "11017W": "Cartridge memory does not agree with the data partition.",
        "12062W": "Coherency data cannot be used.",
        "11194W": "Cannot read index: medium format.",
        "17037E": "XML parser: failed to read from XML stream.",
        "17016E": "Cannot parse index direct from medium.",
        "11220E": "Medium check failed: extra blocks detected. Run ltfsck.",
        "11024E": "Cannot mount volume: read index failed on the index partition.",
        "11027E": "Cannot mount volume: medium consistency check failed.",
        "11333I": "A cartridge with a write error is mounted from generation {generation} on partition {partition}.",
        "17146E": "EOD of partition {partition} is missing. A deep recovery operation is required.",
        "17148E": "Use the deep recovery option of ltfsck to restore the EOD of partition {partition}.",
        "17159I": "Process was interrupted by user.",
        "17079E": "Traverse: cannot find target generation {generation}.",
        # opening a drive, loading
        "10004E": "Cannot open device '{device}'.",
        "12012E": "Cannot open device: failed backend open call.",
        "30209I": "Opening a device through sg driver ({device}).",
        "30210I": "Cannot open device: failed to open {device} ({code}).",
        "30212I": "Cannot open device: {device} is not a tape drive.",
        "30288I": "Opening a tape device for drive serial {device}.",
        "30215I": "Drive serial is {serial}.",
        "12014E": "Cannot open device: failed to reserve the device ({code}).",
        "30266W": "The drive is already reserved: IPv4: 192.0.2.7 ({serial}).",
        "30267W": "The reservation key belongs to another node ({serial}).",
        "30268I": "Waiting to reserve the drive again ({serial}).",
        "30293I": "Changer {device} was reserved from another node (IPv4: 192.0.2.7).",
        "30046I": "Drive is not loaded. Looking again.",
        "30205I": "{command} returns {code} {drive}.",
        "39802W": "Cannot ask the drive for its timeouts: defaults are used ({drive}).",
        "12029E": "The position or the medium may have changed: {command} ({code}).",
        "11312I": "Revalidation process of the medium is starting.",
        "11340I": "Revalidation process is successfully done.",
        "12016E": "No medium present.",
        "11331E": "Failed to load the cartridge ({where}).",
        "11330I": "Loading cartridge.",
        "11332I": "Load successful.",
        "17188I": "Device is not ready ({code}).",
        "17189I": "Device is becoming ready ({code}).",
        "17168E": "Cannot read volume: medium is not partitioned.",
        "11175E": "Cannot read ANSI label: expected 80 bytes, but received {count}.",
        "11170E": "Failed to read label ({code}) from partition {partition}.",
        "11174E": "Cannot read volume label: position or medium is wrong.",
        "11171E": "Failed to read label from partition b.",
        "11009E": "Cannot read volume: failed to read partition labels.",
        "12022I": "Unloading the cartridge.",
        "11289I": "Unloading the medium...",
        "11291I": "Unloaded the medium successfully.",
        # indexes
        "17235I": "Writing index of {serial} to {partition} (Reason: {reason}, {files} files) {drive}.",
        "17236I": "Wrote index of {serial} (Gen = {generation}, Part = {partition}, Pos = {block}, {drive}).",
        "17265I": "Skip writing the index because of {why}.",
        "11338I": "Syncing index of {serial} {drive}.",
        "17068I": "Syncing index of {serial} (Reason: {reason}) {drive}.",
        "17069E": "Failed to sync index of {serial} ({code}) {drive}.",
        "17070I": "Synced index of {serial} ({code}) {drive}.",
        "11034I": "Volume unmounted successfully.",
        "11998W": "{count} files are still open: what they hold is written.",
        "17294I": "Continue signal (18) received",
        "11033E": "Cannot unmount: failed to write an index.",
        "13013W": "Cannot write a file to the index partition: no space.",
        # errors
        "30263I": "{command} returns {text} ({code}) {drive}.",
        "30223W": "Received low space warning (programmable early warning) in write.",
        "11072E": "Cannot write block: no space on partition {partition}.",
        "11077E": "Cannot write: out of space.",
        "11080E": "Cannot write index: failed to position.",
        "11082E": "Cannot write index: failed to write a file mark.",
        "11083E": "Cannot write index to {partition}: failed to write.",
        "11086E": "Cannot read from the medium: failed to position.",
        "11088E": "Cannot read from the medium.",
        "11343I": "Try to write an index on the IP.",
        "11344I": "Tape {serial} is frozen.",
        "11345E": "Failed to write an index on the index partition.",
        "11346E": "No index could be written after the write error.",
        "12033E": "Cannot locate: failed to get the position.",
        "12045E": "Cannot write block: backend call failed ({code}). Dropping to read-only mode.",
        "12047E": "Cannot write file marks: backend call failed ({code}). Dropping to read-only mode.",
        "12049E": "Cannot read block: backend call failed ({code}).",
        "13014W": "Data writer thread: failed to write data to the tape ({code}).",
        "13024I": "Clean up extents and append index at index partition ({code}).",
        "13025I": "Get the position of the error ({partition}, {block}).",
        "17061E": "Cannot write index to the data partition: {serial}.",
        "17293E": "Position mismatch. Cached tape position = {cached}. Current tape position = {current}.",
        # mkltfs
        "15000I": "Starting mkltfs, LTFS version {version}, log level 2.",
        "15001I": "Launched by {command}.",
        "15002E": "Validation of the formatting options failed.",
        "15003I": "Formatting device '{device}'.",
        "15004I": "LTFS volume blocksize: {size}.",
        "15005I": "Index partition placement policy: {rules}.",
        "15008E": "Cannot open backend '{name}'.",
        "15009E": "Cannot open device '{device}' ({code}).",
        "15010I": "Creating data partition b on SCSI partition 1.",
        "15011I": "Creating index partition a on SCSI partition 0.",
        "15012E": "Failed to format the volume ({code}).",
        "15013I": "Volume UUID is: {uuid}.",
        "15015E": "Cannot parse the placement rules ({code}).",
        "15019I": "Volume capacity is {size} GB.",
        "15023I": "Formatting failed.",
        "15024I": "Medium formatted successfully.",
        "15026E": "A device must be given.",
        "15028E": "Block size must be at least 4096.",
        "15029E": "Tape serial must be 6 characters.",
        "15030E": "Tape serial must contain only ASCII digits and capital letters.",
        "15031E": "Volume name contains an invalid character.",
        "15040I": "Medium unformatted successfully.",
        "15044E": "Cannot set up the tape drive.",
        "15047E": "Medium is already formatted (0).",
        "15048I": "Need to specify -f option to format this medium.",
        "15049I": "Checking the medium ({what}).",
        "11095E": "Cannot format: the medium is write protected.",
        "11096E": "Block size {size} is larger than the device allows.",
        "11097I": "Partitioning the medium.",
        "11100I": "Writing label to partition {partition}.",
        "11278I": "Writing index to partition {partition}.",
        "11146E": "Invalid placement rule.",
        "11152E": "Cannot parse the placement rule '{rules}'.",
        "11260E": "Cannot load the plug-in.",
        "11267E": "No plug-in named '{name}'.",
        "17071I": "Unformatting the medium.",
        "17165I": "Resetting the medium's capacity proportion.",
        # ltfsck
        "16000I": "Starting ltfsck, LTFS version {version}, log level 2.",
        "16011E": "Cannot open device '{device}' ({code}).",
        "16014I": "Checking LTFS file system on '{device}'.",
        "16022I": "Volume is consistent.",
        "16072E": "Cannot roll back: cannot find the generation ({code}).",
        "16076E": "Cannot list the generations ({code}).",
        "16080E": "Cannot check volume ({code}).",
        "16086I": "Volume is rolled back successfully.",
        "16092E": "Cannot set up the tape drive ({code}).",
        "16111I": "Recovery is skipped: the medium has a write error.",
        "11223I": "Extra blocks saved as {name}.",
        "11227I": "Preserve existing unreferred data blocks of partition {partition}, put the latest index at {block}.",
        "11233I": "Updating MAM coherency data.",
        "11257I": "The index on partition {partition} cannot be read.",
        "17142I": "Restoring the EOD of partition {partition}.",
        "17141I": "No end of data is missing: a normal check follows.",
        "17259I": "The index on partition {partition} is restored from partition {source}.",
        "17287I": "The newest index is used ({generation}).",
        # the fallback
        "00001W": "coldstore-vtl: no FUSE here ({why}); serving a plain directory: nothing is lost by a kill, sync does not block.",
        "00002E": "coldstore-vtl: {files} cannot be put in the place of {mountpoint} ({why}): without FUSE both must be directories on one "
        "file system, so have the library and the mountpoint on one, or make FUSE available.",
    }
)
"""Text of each message by number and level."""


class Reporter:
    """Writes messages to stderr as they come, one write each."""

    def __init__(self, *, with_thread: bool, quiet: bool = False) -> None:
        """``with_thread`` as ltfs does; ``quiet`` keeps errors and warnings only."""
        self._with_thread = with_thread
        self._quiet = quiet
        self.muted = False

    def say(self, message: str, /, **values: object) -> None:
        """Write one message. A closed stderr is not noticed here (SIGPIPE decides, as in any C program)."""
        if self._quiet and message[-1] in "ID":
            return
        self.raw(self.line(message, **values))

    def line(self, message: str, /, **values: object) -> str:
        """Return a message as it is written."""
        thread = f"{threading.get_native_id():x} " if self._with_thread else ""
        return f"{thread}LTFS{message} {TEXTS[message].format(**values)}\n"

    def raw(self, text: str) -> None:
        """Write text without a number: libfuse's and getopt's lines."""
        if not self.muted:
            with contextlib.suppress(OSError):
                os.write(2, text.encode("utf-8", "surrogateescape"))
