"""Configurations that cannot be set: reading and removing what is not there, and writing what is so anyway."""

from twisted.trial.unittest import SynchronousTestCase

from coldstore.s3.api import BUILT, Operation, Target
from coldstore.s3.errors import S3Error
from coldstore.s3.settled import SETTLED, check_settled
from coldstore.s3.unset import DEFAULTS, MISSING, REMOVALS, answer_of_unset
from coldstore.s3.xml import MalformedDocument, document
from tests.unit.s3_rig import Rig, text_of


class UnsetTests(SynchronousTestCase):
    """What is answered of what is not set."""

    def test_each_has_one_answer(self) -> None:
        """A 404 of its own code, the document of the default, or the success of a removal."""
        for code in MISSING.values():
            self.assertEqual(S3Error(code).status, 404, code)
        groups = (set(MISSING), set(DEFAULTS), set(REMOVALS))
        self.assertEqual(sum(map(len, groups)), len(set().union(*groups)))
        for operation in set().union(*groups[1:]):
            answer = answer_of_unset(operation)
            self.assertEqual(answer.status, 204 if operation in REMOVALS else 200, operation)


class SettledTests(SynchronousTestCase):
    """Documents that say what is so, and others."""

    def refusal(self, operation: Operation, written: bytes) -> S3Error:
        """Return why a document is refused."""
        with self.assertRaises(S3Error) as caught:
            check_settled(operation, written)
        return caught.exception

    def test_what_is_read(self) -> None:
        """What a reading answers can be written back."""
        for operation, node in SETTLED.items():
            check_settled(operation, document(node))
            check_settled(operation, document(node, namespace=None))

    def test_other_values(self) -> None:
        """Are refused by the name of the element and its value, with what is taken instead."""
        for operation, written, named in (
            (Operation.PUT_BUCKET_REQUEST_PAYMENT, b"<RequestPaymentConfiguration/>", "no Payer"),
            (
                Operation.PUT_BUCKET_ABAC,
                b"<AbacStatus><Status>Disabled</Status><Status>Disabled</Status></AbacStatus>",
                "AbacStatus of Status, Status",
            ),
            (
                Operation.PUT_BUCKET_NOTIFICATION,
                b"<NotificationConfiguration><QueueConfiguration/></NotificationConfiguration>",
                "QueueConfiguration",
            ),
            (
                Operation.PUT_BUCKET_REQUEST_PAYMENT,
                b"<RequestPaymentConfiguration><Payer>Requester</Payer></RequestPaymentConfiguration>",
                "Payer 'Requester'",
            ),
        ):
            error = self.refusal(operation, written)
            self.assertEqual(error.code, "NotImplemented")
            self.assertIn(f"{operation.value} with {named}; ", error.message)
        self.assertIn("<Payer>BucketOwner<", self.refusal(*_ANYTHING).message)

    def test_what_is_quoted_is_bounded(self) -> None:
        """A value of any length makes no long answer."""
        long = b"<RequestPaymentConfiguration><Payer>%s</Payer></RequestPaymentConfiguration>" % (b"x" * 9000)
        self.assertLess(len(self.refusal(Operation.PUT_BUCKET_REQUEST_PAYMENT, long).message), 500)
        long = b"<AbacStatus><Status><%s/></Status></AbacStatus>" % (b"x" * 9000)
        self.assertLess(len(self.refusal(Operation.PUT_BUCKET_ABAC, long).message), 500)

    def test_no_document(self) -> None:
        """Nothing, and what is another document, is refused."""
        self.assertEqual(self.refusal(Operation.PUT_BUCKET_LOGGING, b" ").code, "MissingRequestBodyError")
        with self.assertRaises(MalformedDocument):
            check_settled(Operation.PUT_BUCKET_LOGGING, b"<Other/>")


_ANYTHING = (Operation.PUT_BUCKET_REQUEST_PAYMENT, b"<RequestPaymentConfiguration/>")


class OperationTests(SynchronousTestCase):
    """Over HTTP."""

    def setUp(self) -> None:
        """An endpoint with a bucket and a cold object."""
        self.rig = Rig()
        self.rig.put("/bkt")
        self.rig.put("/bkt/k", b"x", x_amz_storage_class="GLACIER")

    def test_reading(self) -> None:
        """All answer cleanly, of buckets and of objects, cold ones included."""
        for target, path in ((Target.BUCKET, "/bkt"), (Target.OBJECT, "/bkt/k")):
            for name, methods in BUILT[target].subresources.items():
                if methods.get("GET") in {*MISSING, *DEFAULTS}:
                    self.assertIn(self.rig.ask("GET", f"{path}?{name}").status, (200, 404), name)
        payment = self.rig.ask("GET", "/bkt?requestPayment")
        self.assertEqual(text_of(payment.body, "Payer"), "BucketOwner")

    def test_of_what_is_not_there(self) -> None:
        """A bucket or object that is not there has no configuration, set or not."""
        for method, name in (("GET", "website"), ("DELETE", "website"), ("PUT", "requestPayment")):
            self.assertEqual(self.rig.ask(method, f"/none?{name}").code, "NoSuchBucket")

    def test_removing(self) -> None:
        """What is not there can be removed, as at AWS."""
        for name in (
            "policy",
            "website",
            "replication",
            "encryption",
            "publicAccessBlock",
        ):
            self.assertEqual(self.rig.ask("DELETE", f"/bkt?{name}").status, 204, name)
        self.assertEqual(self.rig.ask("DELETE", "/bkt?metrics&id=a").code, "NoSuchConfiguration")

    def test_writing(self) -> None:
        """What is so anyway succeeds; else the answer says what would."""
        payment = self.rig.ask("GET", "/bkt?requestPayment").body
        self.assertEqual(self.rig.ask("PUT", "/bkt?requestPayment", payment).status, 200)
        other = payment.replace(b"BucketOwner", b"Requester")
        answer = self.rig.ask("PUT", "/bkt?requestPayment", other)
        self.assertEqual((answer.status, answer.code), (501, "NotImplemented"))
