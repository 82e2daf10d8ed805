"""What access control lists allow, and whose new objects are."""

from twisted.trial.unittest import SynchronousTestCase

from coldstore.model.acl import Acl, CannedAcl, Grant, Group, Ownership, Permission
from coldstore.plan.acl import (
    EXECUTOR_ID,
    OF_BUCKET,
    OF_OBJECT,
    OF_OWNER,
    acl,
    allows,
    canned,
    is_private,
    is_public,
    owner_of_new,
    private,
    without_public,
)
from coldstore.plan.policy.actions import ACTIONS

WRITER, BUCKET_OWNER, OTHER = "writer", "bucket-owner", "other"
READ, WRITE, READ_ACP, WRITE_ACP, FULL_CONTROL = Permission
ALL = frozenset(Permission)
DATA = frozenset({READ, WRITE, FULL_CONTROL})
NOTHING: frozenset[Permission] = frozenset()


def allowed(given: Acl, caller: str | None) -> frozenset[Permission]:
    """Return all that a list allows somebody."""
    return frozenset(permission for permission in Permission if allows(given, permission, caller))


class CannedTests(SynchronousTestCase):
    """The lists that have names, for every kind of caller."""

    def test_every_caller(self) -> None:
        """The owner may do everything; the bucket's owner, another user and nobody what the name says."""
        for name, of_bucket_owner, of_other, of_nobody in (
            (CannedAcl.PRIVATE, NOTHING, NOTHING, NOTHING),
            (CannedAcl.PUBLIC_READ, {READ}, {READ}, {READ}),
            (CannedAcl.PUBLIC_READ_WRITE, {READ, WRITE}, {READ, WRITE}, {READ, WRITE}),
            (CannedAcl.AUTHENTICATED_READ, {READ}, {READ}, NOTHING),
            (CannedAcl.AWS_EXEC_READ, NOTHING, NOTHING, NOTHING),
            (CannedAcl.BUCKET_OWNER_READ, {READ}, NOTHING, NOTHING),
            (CannedAcl.BUCKET_OWNER_FULL_CONTROL, ALL, NOTHING, NOTHING),
            (CannedAcl.LOG_DELIVERY_WRITE, NOTHING, NOTHING, NOTHING),
        ):
            given = canned(name, owner_id=WRITER, bucket_owner_id=BUCKET_OWNER)
            self.assertEqual(allowed(given, WRITER), ALL, name)
            self.assertEqual(allowed(given, BUCKET_OWNER), frozenset(of_bucket_owner), name)
            self.assertEqual(allowed(given, OTHER), frozenset(of_other), name)
            self.assertEqual(allowed(given, None), frozenset(of_nobody), name)

    def test_all_are_there(self) -> None:
        """Each name has a list, in which the owner has full control; no two that differ for somebody are the same."""
        made = {name: canned(name, owner_id=WRITER, bucket_owner_id=BUCKET_OWNER) for name in CannedAcl}
        self.assertEqual(len(set(made.values())), len(CannedAcl))
        for given in made.values():
            self.assertEqual(given.owner_id, WRITER)
            self.assertIn(Grant(WRITER, FULL_CONTROL), given.grants)
        self.assertEqual({name for name, given in made.items() if is_private(given)}, {CannedAcl.PRIVATE})

    def test_own_bucket(self) -> None:
        """To the owner of the bucket the names that are about him give nothing more."""
        for name in (CannedAcl.BUCKET_OWNER_READ, CannedAcl.BUCKET_OWNER_FULL_CONTROL):
            given = canned(name, owner_id=BUCKET_OWNER, bucket_owner_id=BUCKET_OWNER)
            self.assertEqual(given, private(BUCKET_OWNER))

    def test_groups_without_members(self) -> None:
        """Who delivers logs and who executes images is nobody here; the grants are shown all the same."""
        logs = canned(CannedAcl.LOG_DELIVERY_WRITE, owner_id=WRITER, bucket_owner_id=WRITER)
        self.assertIn(Grant(Group.LOG_DELIVERY, READ_ACP), logs.grants)
        images = canned(CannedAcl.AWS_EXEC_READ, owner_id=WRITER, bucket_owner_id=WRITER)
        self.assertIn(Grant(EXECUTOR_ID, READ), images.grants)


class ListTests(SynchronousTestCase):
    """Lists of any grants."""

    def test_each_permission(self) -> None:
        """Allows itself alone; full control allows all."""
        for permission in Permission:
            given = acl(WRITER, [Grant(OTHER, permission)])
            expected = ALL if permission is FULL_CONTROL else {permission}
            self.assertEqual(allowed(given, OTHER), frozenset(expected), permission)
            self.assertEqual(allowed(given, None), NOTHING)

    def test_owner(self) -> None:
        """May read and write the list whatever it says, and use what is his as it says."""
        self.assertEqual(allowed(acl(WRITER, []), WRITER), ALL - DATA)
        self.assertEqual(allowed(acl(WRITER, [Grant(WRITER, READ)]), WRITER), (ALL - DATA) | {READ})

    def test_order(self) -> None:
        """Grants are kept by permission, each once; equal permissions as they were given."""
        given = acl(
            WRITER,
            [Grant("b", FULL_CONTROL), Grant("b", READ), Grant("a", READ), Grant("b", READ)],
        )
        self.assertEqual(given.grants, (Grant("b", READ), Grant("a", READ), Grant("b", FULL_CONTROL)))

    def test_public(self) -> None:
        """A list is public that grants anything to everybody or to everybody who signs."""
        for permission in Permission:
            for group, expected in (
                (Group.ALL_USERS, True),
                (Group.AUTHENTICATED_USERS, True),
                (Group.LOG_DELIVERY, False),
                (OTHER, False),
            ):
                given = acl(WRITER, [Grant(WRITER, FULL_CONTROL), Grant(group, permission)])
                self.assertEqual(is_public(given), expected, (group, permission))
                kept = without_public(given)
                self.assertEqual(kept == given, not expected)
                self.assertIs(is_public(kept), False)
                self.assertEqual(allowed(kept, WRITER), ALL)


class OwnerTests(SynchronousTestCase):
    """Whose an object is that comes into being."""

    def owner(self, ownership: Ownership, given: CannedAcl | None, writer: str | None = WRITER) -> str:
        """Return the owner."""
        return owner_of_new(ownership, writer_id=writer, bucket_owner_id=BUCKET_OWNER, given=given)

    def test_modes(self) -> None:
        """Enforced: the bucket owner's; writer: the writer's; preferred: as the writer says, by one canned list."""
        for given in (None, *CannedAcl):
            self.assertEqual(self.owner(Ownership.ENFORCED, given), BUCKET_OWNER)
            self.assertEqual(self.owner(Ownership.WRITER, given), WRITER)
            expected = BUCKET_OWNER if given is CannedAcl.BUCKET_OWNER_FULL_CONTROL else WRITER
            self.assertEqual(self.owner(Ownership.PREFERRED, given), expected)

    def test_nobody(self) -> None:
        """What somebody writes who does not sign is the bucket owner's."""
        for ownership in Ownership:
            self.assertEqual(self.owner(ownership, None, None), BUCKET_OWNER)


class ActionTests(SynchronousTestCase):
    """Which permission lets somebody do what policies have a name for."""

    def test_apart(self) -> None:
        """Each is for the list of the bucket or for that of the object to allow, and full control for none alone."""
        self.assertEqual(set(OF_BUCKET) & set(OF_OBJECT), set())
        self.assertEqual(OF_OWNER & {*OF_BUCKET, *OF_OBJECT}, set())
        self.assertEqual(OF_OWNER - set(ACTIONS), set())
        self.assertEqual({*OF_BUCKET, *OF_OBJECT} - set(ACTIONS), set())
        self.assertEqual(set(OF_BUCKET.values()), ALL - {FULL_CONTROL})
        self.assertEqual(set(OF_OBJECT.values()), {READ, READ_ACP, WRITE_ACP})
