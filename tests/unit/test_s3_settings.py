"""What buckets are configured by, as it is kept."""

from dataclasses import dataclass, field

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from coldstore.model.configurations import ConfigurationKind
from coldstore.model.objects import Bucket
from coldstore.s3.settings import Settings

KIND = ConfigurationKind.CORS


@dataclass
class Documents:
    """A store of documents that counts how often it was asked."""

    documents: dict[int, str] = field(default_factory=dict)
    asked: int = 0

    def bucket_configuration(self, *, bucket_uid: int, kind: ConfigurationKind) -> Deferred[str | None]:
        """See ``IMetadataStore``."""
        self.asked += 1
        return succeed(self.documents.get(bucket_uid) if kind is KIND else None)


def bucket_of(uid: int, **revisions: int) -> Bucket:
    """Return a bucket with revisions of kinds by their names."""
    return Bucket(
        bucket_uid=uid,
        name=f"bucket{uid}",
        owner_id="owner",
        region="",
        created_at=0.0,
        configurations={ConfigurationKind[name]: revision for name, revision in revisions.items()},
    )


class SettingsTests(SynchronousTestCase):
    """The cache of parsed documents."""

    def setUp(self) -> None:
        self.store = Documents({1: "one", 2: "two", 3: "three"})
        self.settings = Settings(self.store, kept_max=2)  # type: ignore[arg-type]

    def of(self, bucket: Bucket) -> str | None:
        return self.successResultOf(Deferred.fromCoroutine(self.settings.of(bucket, KIND, str.upper)))

    def test_nothing(self) -> None:
        """A bucket without any costs no question; one that lost its document meanwhile has none."""
        self.assertIsNone(self.of(bucket_of(1, POLICY=5)))
        self.assertEqual(self.store.asked, 0)
        self.assertIsNone(self.of(bucket_of(9, CORS=5)))

    def test_kept(self) -> None:
        """A document is asked for and parsed once, until it has another revision."""
        self.assertEqual([self.of(bucket_of(1, CORS=5)) for _ in range(3)], ["ONE"] * 3)
        self.assertEqual(self.store.asked, 1)
        self.store.documents[1] = "anew"
        self.assertEqual(self.of(bucket_of(1, CORS=6)), "ANEW")

    def test_bounded(self) -> None:
        """What was used longest ago is parsed anew when there are more than are kept."""
        for uid in (1, 2, 1, 3, 1):
            self.of(bucket_of(uid, CORS=5))
        self.assertEqual(self.store.asked, 3)
        self.of(bucket_of(2, CORS=5))
        self.assertEqual(self.store.asked, 4)
