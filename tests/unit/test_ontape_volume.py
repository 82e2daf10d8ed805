"""Labels, paths and ids of a cartridge."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from coldstore.model.cartridges import VolumeForm
from coldstore.ontape import paths
from coldstore.ontape.errors import VolumeLabelDamaged
from coldstore.ontape.volume import VolumeLabel, parse_volume_json, readme_text, volume_json

LABEL = VolumeLabel(
    appliance_id="archive",
    pool="vault",
    barcode="A00012L9",
    volume_uuid="a1b2",
    admitted_at=1_750_000_000.5,
    admitted_by="Zo\u00eb {x}",
)


class VolumeLabelTests(SynchronousTestCase):
    """``volume.json``."""

    def test_round_trip(self) -> None:
        """What is written is read equal."""
        self.assertEqual(parse_volume_json(volume_json(LABEL)), LABEL)

    @settings(max_examples=200, deadline=None)
    @given(st.integers(0, 2**32), st.integers(0, 20), st.binary(max_size=20))
    def test_damage(self, start: int, length: int, run: bytes) -> None:
        """A changed label is damage or a different well-formed label, never another error."""
        data = volume_json(LABEL)
        start %= len(data)
        changed = data[:start] + run + data[start + length :]
        try:
            label = parse_volume_json(changed)
        except VolumeLabelDamaged:
            return
        self.assertEqual(volume_json(label), changed)

    def test_unknown_version(self) -> None:
        """A later version is refused by number."""
        data = volume_json(LABEL).replace(b'"coldstore_volume": 1', b'"coldstore_volume": 2')
        self.assertIn("version 2", str(self.assertRaises(VolumeLabelDamaged, parse_volume_json, data)))

    def test_refused(self) -> None:
        """Texts that could break the words of README.txt are refused."""
        for name in ("", "a\nb", "\x1b[0m"):
            self.assertRaises(
                ValueError,
                VolumeLabel,
                appliance_id="a",
                pool="p",
                barcode="b",
                volume_uuid="u",
                admitted_at=0.0,
                admitted_by=name,
            )


class ReadmeTests(SynchronousTestCase):
    """``README.txt``."""

    def test_names_the_cartridge(self) -> None:
        """It carries the label's facts, in lines that fit a terminal outside the script, whatever the form of the volume."""
        for form in VolumeForm:
            text = readme_text(LABEL, form)
            for fact in ("A00012L9", "a1b2", "vault", "2025-06-15 15:06 UTC", "Zo\u00eb {x}"):
                self.assertIn(fact, text)
            words = text[: text.index("6. get-object.sh")]
            self.assertLessEqual(max(map(len, words.splitlines())), 80)
            self.assertEqual(form is VolumeForm.LTFS, "LTFS" in text)


class PathsTests(SynchronousTestCase):
    """Ids and paths."""

    @settings(max_examples=100, deadline=None)
    @given(st.tuples(st.integers(0, 2**48 - 1), st.integers(0, 2**80 - 1)), st.integers(0, 2**48 - 1))
    def test_order(self, first: tuple[int, int], later_ms: int) -> None:
        """Ids sort as their times do, then as their chance, and have the form that paths ask for."""
        second = (later_ms, first[1])
        ids = [paths.bundle_id(*first), paths.bundle_id(*second)]
        self.assertEqual(ids[0] < ids[1], first < second)
        self.assertTrue(all(map(paths.is_id, ids)))

    def test_known_value(self) -> None:
        """The encoding is that of ULID in lower case."""
        self.assertEqual(paths.bundle_id(1469918176385, 0), "01aryz6s41" + "0" * 16)

    def test_out_of_range(self) -> None:
        """Numbers that do not fit are refused."""
        for time_ms, random_bits in ((-1, 0), (1 << 48, 0), (0, -1), (0, 1 << 80)):
            self.assertRaises(ValueError, paths.session_id, time_ms, random_bits)

    def test_paths(self) -> None:
        """Paths are made for ids and for nothing else; the small files match the placement rule."""
        identity = paths.bundle_id(1_750_000_000_000, 2)
        self.assertEqual(paths.bundle_path(identity), f"coldstore/bundles/{identity}.tar")
        self.assertEqual(paths.session_path(identity), f"coldstore/sessions/{identity}.manifest")
        patterns = paths.PLACEMENT_RULE.partition("name=")[2].split(":")
        for path in (paths.session_path(identity), paths.VOLUME_PATH, paths.README_PATH):
            self.assertTrue(any(path.endswith(pattern.removeprefix("*")) for pattern in patterns))
        for bad in ("", "../x", identity.upper(), identity + "0"):
            self.assertRaises(ValueError, paths.bundle_path, bad)
