"""Barcodes and what their media identifiers say."""

from twisted.trial.unittest import SynchronousTestCase

from coldstore.model.barcodes import (
    MEDIA,
    BadBarcode,
    can_read,
    can_write,
    is_cleaning_label,
    parse_barcode,
)


class BarcodeTests(SynchronousTestCase):
    """Labels."""

    def test_parts(self) -> None:
        """A label is six characters and a media identifier."""
        barcode = parse_barcode("A00001L8")
        self.assertEqual((barcode.volume, barcode.media_id, str(barcode)), ("A00001", "L8", "A00001L8"))
        self.assertFalse(barcode.is_cleaning)
        media = barcode.media
        assert media is not None
        self.assertEqual((media.generation, media.capacity_bytes, media.density_code), (8, 12 * 10**12, 0x5E))

    def test_bad_labels(self) -> None:
        """Other forms are refused."""
        for label in ("", "A00001", "a00001L8", "A00001L8 ", "A0000-L8", "A000001L8", "Ä00001L8"):
            self.assertRaises(BadBarcode, parse_barcode, label)

    def test_cleaning(self) -> None:
        """A cleaning cartridge is known by its prefix and has no media to write."""
        for label in ("CLNU01L1", "CLN001L8", "CLNU00CU"):
            self.assertTrue(is_cleaning_label(label))
            self.assertTrue(parse_barcode(label).is_cleaning)
            self.assertIsNone(parse_barcode(label).media)
        self.assertTrue(is_cleaning_label("CLN001"))
        self.assertFalse(is_cleaning_label("A00CLNL8"))

    def test_unknown_media(self) -> None:
        """An identifier that is not known is no media, but a barcode."""
        self.assertIsNone(parse_barcode("A00001ZZ").media)


class MediaTests(SynchronousTestCase):
    """Which drive takes which media."""

    def test_every_media(self) -> None:
        """What a drive writes it also reads; every media is written by some drive; keys are the identifiers."""
        for media_id, media in MEDIA.items():
            self.assertEqual(media.media_id, media_id)
            self.assertTrue(media.written_by)
            self.assertLessEqual(media.written_by, media.read_by)
            self.assertGreaterEqual(media.capacity_bytes, 10**11)
            self.assertEqual(media.has_partitions, media.capacity_bytes > 10**12)

    def test_generations(self) -> None:
        """One generation back for writing up to LTO-9, none for LTO-10; M8 belongs to LTO-8 drives alone."""
        writers = {
            media_id: sorted(media.written_by) for media_id, media in MEDIA.items() if not media.is_worm
        }
        self.assertEqual(
            writers,
            {
                "L1": [1, 2],
                "L2": [2, 3],
                "L3": [3, 4],
                "L4": [4, 5],
                "L5": [5, 6],
                "L6": [6, 7],
                "L7": [7, 8],
                "M8": [8],
                "L8": [8, 9],
                "L9": [9],
                "LA": [10],
                "PA": [10],
            },
        )

    def test_old_media(self) -> None:
        """An LTO-7 drive reads LTO-5 and does not write it; LTO-8 does neither."""
        self.assertTrue(can_read(MEDIA["L5"], drive_generation=7))
        self.assertFalse(can_write(MEDIA["L5"], drive_generation=7))
        self.assertFalse(can_read(MEDIA["L5"], drive_generation=8))
