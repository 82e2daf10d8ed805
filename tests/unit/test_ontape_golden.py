"""The golden cartridges: what the writer makes today is what lies in the repository, and it can be read."""

from twisted.trial.unittest import SynchronousTestCase

from coldstore.ontape.manifest import parse_session_manifest, session_text
from coldstore.ontape.reading import read_manifest, walk
from coldstore.ontape.volume import parse_volume_json
from tests.fixtures.make_cartridges import APPLIANCE, DIRECTORY, OBJECTS, cartridges


class GoldenTests(SynchronousTestCase):
    """``tests/fixtures/cartridges``."""

    def test_writer_is_unchanged(self) -> None:
        """
        Every file is made again with the same bytes.

        Of the sessions' manifests the text is compared: what compresses it may choose other bytes.
        """
        made = cartridges()
        stored = {str(path.relative_to(DIRECTORY)): path for path in DIRECTORY.rglob("*") if path.is_file()}
        self.assertEqual(set(made), set(stored))
        for name, data in made.items():
            golden = stored[name].read_bytes()
            if name.endswith(".manifest"):
                golden, data = session_text(golden), session_text(data)
            self.assertTrue(
                golden == data, f"{name} differs from what the writer makes: the format has changed"
            )

    def test_readers_agree(self) -> None:
        """Headers, the bundle's manifest and the session's manifest tell the same."""
        for root in DIRECTORY.iterdir():
            for path in root.glob("coldstore/bundles/*.tar"):
                with path.open("rb") as bundle:
                    manifest = read_manifest(bundle)
                    self.assertEqual(tuple(one.member for one in walk(bundle)), manifest.plan.members)
                    self.assertEqual(path.stem, manifest.plan.bundle_id)
                    self.assertEqual(path.stat().st_size, manifest.layout.total_bytes)
        (session,) = DIRECTORY.rglob("*.manifest")
        ((file, bundle_manifest),) = parse_session_manifest(session.read_bytes()).bundles
        self.assertEqual(file.bundle_id, bundle_manifest.plan.bundle_id)
        self.assertGreaterEqual(len(bundle_manifest.plan.members), len(OBJECTS))

    def test_labels(self) -> None:
        """Both cartridges say who they are."""
        labels = [parse_volume_json(path.read_bytes()) for path in sorted(DIRECTORY.rglob("volume.json"))]
        self.assertEqual([label.barcode for label in labels], ["A00001L9", "A00002L9"])
        self.assertEqual({label.appliance_id for label in labels}, {APPLIANCE})
