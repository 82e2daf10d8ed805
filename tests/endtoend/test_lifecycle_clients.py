"""Lifecycle configurations with boto3, awscli, s3cmd and MinIO's client for Python: each writes its own documents and reads ours."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from minio import Minio
from minio.commonconfig import DISABLED, ENABLED, AndOperator, Filter, Tag, Tags
from minio.error import S3Error
from minio.lifecycleconfig import (
    AbortIncompleteMultipartUpload,
    Expiration,
    LifecycleConfig,
    NoncurrentVersionExpiration,
    NoncurrentVersionTransition,
    Rule,
    Transition,
)

from tests.endtoend.clients import ProgramCase, refusal, refused

THEN = datetime(2031, 5, 1, tzinfo=UTC)
EVERYTHING: list[dict[str, Any]] = [
    {
        "ID": "all of it, with ü & <",
        "Status": "Enabled",
        "Filter": {
            "And": {
                "Prefix": "logs/ä +",
                "Tags": [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": ""}],
                "ObjectSizeGreaterThan": 10,
                "ObjectSizeLessThan": 5 * 1024**4,
            }
        },
        "Transitions": [
            {"Days": 30, "StorageClass": "STANDARD_IA"},
            {"Days": 60, "StorageClass": "GLACIER"},
            {"Days": 61, "StorageClass": "DEEP_ARCHIVE"},
        ],
        "Expiration": {"Days": 3650},
        "NoncurrentVersionTransitions": [
            {"NoncurrentDays": 0, "StorageClass": "GLACIER", "NewerNoncurrentVersions": 2}
        ],
        "NoncurrentVersionExpiration": {"NoncurrentDays": 9, "NewerNoncurrentVersions": 100},
    },
    {
        "ID": "dated",
        "Status": "Disabled",
        "Filter": {"Prefix": ""},
        "Transitions": [{"Date": THEN, "StorageClass": "GLACIER"}],
        "Expiration": {"Date": THEN + timedelta(days=1)},
    },
    {
        "ID": "old form",
        "Status": "Enabled",
        "Prefix": "tmp/",
        "Expiration": {"ExpiredObjectDeleteMarker": True},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
    },
    {"ID": "small", "Status": "Enabled", "Filter": {"ObjectSizeLessThan": 9}, "Expiration": {"Days": 1}},
    {"ID": "rest", "Status": "Enabled", "Filter": {}, "NoncurrentVersionExpiration": {"NoncurrentDays": 1}},
]


class LifecycleClientTests(ProgramCase):
    """One bucket."""

    def test_boto3(self) -> None:
        """All that there is comes back as it was written, also after a restart; objects say when they expire."""
        here = {"Bucket": self.name}
        self.assertEqual(
            refused(self.s3.get_bucket_lifecycle_configuration, **here), (404, "NoSuchLifecycleConfiguration")
        )
        put = self.s3.put_bucket_lifecycle_configuration
        answer = put(**here, LifecycleConfiguration={"Rules": EVERYTHING})
        self.assertEqual(answer["TransitionDefaultMinimumObjectSize"], "varies_by_storage_class")
        self.appliance.kill()
        self.appliance.start()
        shown = self.s3.get_bucket_lifecycle_configuration(**here)
        self.assertEqual(shown["Rules"], EVERYTHING)
        self.assertEqual(shown["TransitionDefaultMinimumObjectSize"], "varies_by_storage_class")
        self.assertEqual(
            self.s3.get_bucket_lifecycle(**here)["Rules"][2]["Prefix"], "tmp/", "by the operation of old"
        )
        tomorrow = self.s3.put_object(**here, Key="k", Body=b"x")["Expiration"]
        self.assertRegex(tomorrow, r'^expiry-date="\w{3}, \d\d \w{3} \d{4} 00:00:00 GMT", rule-id="small"$')
        for read in (self.s3.head_object, self.s3.get_object):
            self.assertEqual(read(**here, Key="k")["Expiration"], tomorrow)
        copied = self.s3.copy_object(**here, Key="copy", CopySource=f"{self.name}/k")
        self.assertEqual(copied["Expiration"], tomorrow)
        self.assertNotIn("Expiration", self.s3.put_object(**here, Key="k", Body=b"x" * 9))
        upload = self.s3.create_multipart_upload(**here, Key="tmp/u")
        self.assertEqual(upload["AbortRuleId"], "old form")
        parts = self.s3.list_parts(**here, Key="tmp/u", UploadId=upload["UploadId"])
        self.assertEqual((parts["AbortDate"], parts["AbortRuleId"]), (upload["AbortDate"], "old form"))
        self.assertGreater(upload["AbortDate"], datetime.now(UTC) + timedelta(days=7))
        wrong = {"Rules": [{**EVERYTHING[3], "Expiration": {"Days": 0}}]}
        error = refusal(put, **here, LifecycleConfiguration=wrong)["Error"]
        self.assertEqual(error["Code"], "InvalidArgument")
        self.assertIn("In rule 'small', Days of Expiration is 0", error["Message"])
        answer = put(
            **here,
            LifecycleConfiguration={"Rules": EVERYTHING[4:]},
            TransitionDefaultMinimumObjectSize="all_storage_classes_128K",
        )
        self.assertEqual(answer["TransitionDefaultMinimumObjectSize"], "all_storage_classes_128K")
        self.assertNotIn("Expiration", self.s3.head_object(**here, Key="copy"))
        self.s3.delete_bucket_lifecycle(**here)
        self.s3.delete_bucket_lifecycle(**here)
        self.assertEqual(
            refused(self.s3.get_bucket_lifecycle_configuration, **here), (404, "NoSuchLifecycleConfiguration")
        )

    def test_awscli(self) -> None:
        """s3api puts, gets and deletes; what it gets it can put."""
        here = ("--bucket", self.name)
        rules = json.dumps({"Rules": [*EVERYTHING[:1], *EVERYTHING[2:]]})
        self.programs.aws(
            "s3api", "put-bucket-lifecycle-configuration", *here, "--lifecycle-configuration", rules
        )
        shown = json.loads(self.programs.aws("s3api", "get-bucket-lifecycle-configuration", *here).stdout)
        self.assertEqual(shown["Rules"], json.loads(rules)["Rules"])
        del shown["TransitionDefaultMinimumObjectSize"]
        self.programs.aws(
            "s3api",
            "put-bucket-lifecycle-configuration",
            *here,
            "--lifecycle-configuration",
            json.dumps(shown),
        )
        self.programs.aws("s3api", "delete-bucket-lifecycle", *here)
        told = self.programs.aws("s3api", "get-bucket-lifecycle-configuration", *here, status=None).stderr
        self.assertIn("NoSuchLifecycleConfiguration", told)

    def test_s3cmd(self) -> None:
        """expire, info, setlifecycle, getlifecycle, dellifecycle."""
        s3cmd, url = self.programs.s3cmd, f"s3://{self.name}"
        s3cmd("expire", url, "--expiry-days=5", "--expiry-prefix=tmp/")
        self.assertIn("objects with key prefix 'tmp/' will expire in '5' day(s)", s3cmd("info", url).stdout)
        s3cmd("expire", url, "--expiry-date=2031-05-01")
        (rule,) = self.s3.get_bucket_lifecycle_configuration(Bucket=self.name)["Rules"]
        self.assertEqual((rule["Expiration"], rule["Filter"]), ({"Date": THEN}, {"Prefix": ""}))
        policy = self.files / "rules.xml"
        policy.write_text(
            "<LifecycleConfiguration>\n  <Rule><ID>here</ID><Prefix/><Status>Enabled</Status>\n"
            "    <Transition><Days>0</Days><StorageClass>GLACIER</StorageClass></Transition></Rule>\n</LifecycleConfiguration>\n"
        )
        s3cmd("setlifecycle", str(policy), url)
        shown = s3cmd("getlifecycle", url).stdout
        for element in ("<ID>here</ID>", "<Days>0</Days>", "<StorageClass>GLACIER</StorageClass>"):
            self.assertIn(element, shown)
        policy.write_text(policy.read_text().replace("GLACIER", "LUKEWARM"))
        self.assertIn("LUKEWARM", s3cmd("setlifecycle", str(policy), url, status=None).stderr)
        s3cmd("dellifecycle", url)
        self.assertIn("NoSuchLifecycleConfiguration", s3cmd("getlifecycle", url, status=None).stderr)

    def test_minio(self) -> None:
        """MinIO's client for Python sets, gets and deletes."""
        keys = self.appliance.users["first"]
        minio = Minio(
            urlsplit(self.appliance.endpoint).netloc,
            access_key=keys.access_key,
            secret_key=keys.secret_key,
            secure=False,
        )
        self.assertIsNone(minio.get_bucket_lifecycle(self.name))
        tags = Tags.new_object_tags()
        tags["a"] = "1"
        tags["b"] = "2"
        rules = [
            Rule(
                ENABLED,
                rule_filter=Filter(prefix="documents/"),
                rule_id="rule1",
                transition=Transition(days=30, storage_class="GLACIER"),
                noncurrent_version_transition=NoncurrentVersionTransition(
                    noncurrent_days=5, storage_class="GLACIER", newer_noncurrent_versions=3
                ),
                noncurrent_version_expiration=NoncurrentVersionExpiration(noncurrent_days=9),
            ),
            Rule(
                DISABLED,
                rule_filter=Filter(tag=Tag("a", "1")),
                rule_id="rule2",
                expiration=Expiration(date=THEN),
            ),
            Rule(
                ENABLED,
                rule_filter=Filter(and_operator=AndOperator(prefix="x", tags=tags)),
                rule_id="rule3",
                expiration=Expiration(days=1),
            ),
            Rule(
                ENABLED,
                rule_filter=Filter(prefix=""),
                rule_id="rule4",
                expiration=Expiration(expired_object_delete_marker=True),
                abort_incomplete_multipart_upload=AbortIncompleteMultipartUpload(days_after_initiation=7),
            ),
        ]
        minio.set_bucket_lifecycle(self.name, LifecycleConfig(rules))
        shown = minio.get_bucket_lifecycle(self.name)
        assert shown is not None
        self.assertEqual(shown, LifecycleConfig(rules))
        wrong = Rule(ENABLED, rule_filter=Filter(prefix=""), rule_id="w", transition=Transition(days=1))
        error = self.assertRaises(S3Error, minio.set_bucket_lifecycle, self.name, LifecycleConfig([wrong]))
        self.assertEqual(error.code, "MalformedXML")
        minio.delete_bucket_lifecycle(self.name)
        self.assertIsNone(minio.get_bucket_lifecycle(self.name))
