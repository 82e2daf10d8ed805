"""SCSI sense data as ``mtx`` prints it: twelve lines on stderr (fixed format, current error)."""

SENSE_KEYS = (
    "No Sense",
    "Recovered Error",
    "Not Ready",
    "Medium Error",
    "Hardware Error",
    "Illegal Request",
    "Unit Attention",
    "Data Protect",
    "Blank Check",
    "0x09",
    "0x0a",
    "Aborted Command",
    "0x0c",
    "Volume Overflow",
    "Miscompare",
)


def sense_block(key: int, code: int, qualifier: int) -> str:
    """Return the twelve lines for a sense key, additional sense code and qualifier."""
    rows = (
        "Long Report=yes",
        "Valid Residual=no",
        "Error Code=70 (Current)",
        f"Sense Key={SENSE_KEYS[key]}",
        "FileMark=no",
        "EOM=no",
        "ILI=no",
        f"Additional Sense Code = {code:02X}",
        f"Additional Sense Qualifier = {qualifier:02X}",
        "BPV=no",
        "Error in CDB=no",
        "SKSV=no",
    )
    return "".join(f"mtx: Request Sense: {row}\n" for row in rows)
