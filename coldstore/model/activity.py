"""What a drive is doing at the moment, as told to an operator."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DriveActivity:
    """
    One drive's present work. ``job`` is look (nobody knows yet what is in the drive), idle, archive, recall or unload; ``step`` says
    what is done at the moment; ``done_bytes`` of ``total_bytes`` tell how far that step is (0 of 0 when it cannot be told).
    """

    drive: int
    barcode: str | None
    is_mounted: bool
    job: str
    step: str
    detail: str
    done_bytes: int
    total_bytes: int
    since: float
