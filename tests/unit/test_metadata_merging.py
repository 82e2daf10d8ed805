"""Many statements of one form as one text."""

from twisted.trial.unittest import SynchronousTestCase

from coldstore.metadata.postgres.merging import (
    QUESTIONS_MAX,
    ROWS_MAX,
    TEXT_BYTES_MAX,
    Asked,
    Text,
    Writes,
    kinds_of,
    parted,
    questions,
)
from coldstore.model.objects import StorageClass

ONE = "SELECT a, b FROM t WHERE a = ? AND (b > ? OR c = ?) ORDER BY b LIMIT ?"


class QuestionTests(SynchronousTestCase):
    """``questions``."""

    def test_alone(self) -> None:
        """One stays as it is, and its rows are its own."""
        (question,) = questions([Asked("x", ONE, ("k", 1.5, b"c", 9))])
        self.assertEqual(question.text, Text(ONE.replace("?", "%s"), ("k", 1.5, b"c", 9)))
        self.assertEqual(question.answers([(1, 2), (3, 4)]), [[(1, 2), (3, 4)]])

    def test_many(self) -> None:
        """Several of one form are asked of a list, whose first row says of which type its columns are."""
        asked = [Asked(n, ONE, (f"k{n}", n + 0.5, b"c", n)) for n in range(3)]
        (question,) = questions(asked)
        self.assertEqual(
            question.text,
            Text(
                "SELECT asked.n, found.* FROM (VALUES"
                " (%s::int,%s::text,%s::double precision,%s::bytea,%s::bigint),(%s,%s,%s,%s,%s),(%s,%s,%s,%s,%s))"
                " AS asked (n, a1, a2, a3, a4) CROSS JOIN LATERAL (SELECT a, b FROM t"
                " WHERE a = asked.a1 AND (b > asked.a2 OR c = asked.a3) ORDER BY b LIMIT asked.a4) AS found",
                [0, "k0", 0.5, b"c", 0, 1, "k1", 1.5, b"c", 1, 2, "k2", 2.5, b"c", 2],
            ),
        )
        self.assertEqual(question.of, asked)
        self.assertEqual(
            question.answers([(0, "a", 1), (2, "b", 2), (2, "a", 3)]),
            [[("a", 1)], [], [("b", 2), ("a", 3)]],
        )

    def test_nothing(self) -> None:
        """NULL is of whatever type the question wants; who asks with it asks another question."""
        one = "SELECT a FROM t WHERE ? IS NULL OR b < ?"
        asked = [Asked(n, one, (b, b)) for n, b in enumerate((None, 5, None, 6, 7))]
        nothing, numbers = questions(asked)
        self.assertEqual(nothing.of, [asked[0], asked[2]])
        self.assertEqual(
            nothing.text,
            Text(
                "SELECT asked.n, found.* FROM (VALUES (%s::int),(%s)) AS asked (n)"
                " CROSS JOIN LATERAL (SELECT a FROM t WHERE NULL IS NULL OR b < NULL) AS found",
                [0, 1],
            ),
        )
        self.assertEqual(numbers.of, [asked[1], asked[3], asked[4]])

    def test_kinds(self) -> None:
        """Values of classes of ours are what they are made of; of anything else nothing can be asked."""
        self.assertEqual(
            kinds_of((1, 1.5, "x", b"x", None, StorageClass.GLACIER)),
            ("bigint", "double precision", "text", "bytea", "", "text"),
        )
        with self.assertRaises(TypeError):
            kinds_of((object(),))

    def test_changes(self) -> None:
        """What changes something goes alone, in its turn; other questions go in the order in which each form came first."""
        asked = [
            Asked(n, statement, ())
            for n, statement in enumerate(
                ["SELECT 1", "DELETE FROM t RETURNING a", "SELECT 2", "DELETE FROM t RETURNING a", "SELECT 1"]
            )
        ]
        self.assertEqual(
            [[one.asker for one in question.of] for question in questions(asked)], [[0, 4], [1], [2], [3]]
        )

    def test_bounded(self) -> None:
        """Neither too many nor too heavy ones go together."""
        many = [Asked(n, "SELECT ?", (n,)) for n in range(2 * QUESTIONS_MAX + 1)]
        sizes = [len(question.of) for question in questions(many)]
        self.assertEqual(sizes, [QUESTIONS_MAX, QUESTIONS_MAX, 1])
        heavy = [Asked(n, "SELECT ?", ("x" * 100_000,)) for n in range(5)]
        self.assertEqual([len(question.of) for question in questions(heavy)], [2, 2, 1])
        self.assertEqual(list(parted([1, 2], [(b"x" * 2 * TEXT_BYTES_MAX,)] * 2)), [[1], [2]])
        self.assertEqual(list(parted([], [])), [])


class WritesTests(SynchronousTestCase):
    """``Writes``."""

    def test_inserts(self) -> None:
        """Rows for a table go in one statement, whoever writes them; tables in the order of each writer."""
        writes = Writes()
        self.assertFalse(writes)
        for writer in "xyz":
            writes.insert(writer, "parents", "id, at", (writer, 1))
            writes.insert(writer, "children", "id", (writer,))
        self.assertTrue(writes)
        self.assertEqual(
            writes.taken(),
            [
                Text("INSERT INTO parents (id, at) VALUES (%s,%s),(%s,%s),(%s,%s)", ["x", 1, "y", 1, "z", 1]),
                Text("INSERT INTO children (id) VALUES (%s),(%s),(%s)", ["x", "y", "z"]),
            ],
        )
        self.assertFalse(writes)
        self.assertEqual(writes.taken(), [])

    def test_order(self) -> None:
        """Of one writer nothing goes in front of what it wrote before."""
        writes = Writes()
        writes.insert("x", "a", "n", (1,))
        writes.do("x", "DELETE FROM b WHERE n = ?", (1,))
        writes.do("y", "DELETE FROM b WHERE n = ?", (2,))
        writes.insert("y", "a", "n", (2,))
        writes.insert("z", "a", "n", (3,))
        writes.do("y", "DELETE FROM b WHERE n = ?", (4,))
        self.assertEqual(
            writes.taken(),
            [
                Text("INSERT INTO a (n) VALUES (%s),(%s)", [1, 3]),
                Text("DELETE FROM b WHERE n = %s;DELETE FROM b WHERE n = %s", [1, 2]),
                Text("INSERT INTO a (n) VALUES (%s)", [2]),
                Text("DELETE FROM b WHERE n = %s", [4]),
            ],
        )

    def test_sums(self) -> None:
        """What is added to a key is added up first, and goes last."""
        writes = Writes()
        for key, count in (("x", 1), ("y", 10), ("x", 2), ("x", -5)):
            writes.add("sums", "a, b", "c, d", (key, 7, count, 100))
        writes.insert("z", "t", "n", (1,))
        self.assertEqual(
            writes.taken(),
            [
                Text("INSERT INTO t (n) VALUES (%s)", [1]),
                Text(
                    "INSERT INTO sums (a, b, c, d) VALUES (%s,%s,%s,%s),(%s,%s,%s,%s) ON CONFLICT (a, b) DO UPDATE SET"
                    " c = sums.c + excluded.c, d = sums.d + excluded.d",
                    ["x", 7, -2, 300, "y", 7, 10, 100],
                ),
            ],
        )
        self.assertEqual(writes.taken(), [])

    def test_bounded(self) -> None:
        """Nothing that is sent at once is too long."""
        writes = Writes()
        for n in range(ROWS_MAX + 1):
            writes.insert(n, "t", "n", (n,))
            writes.do(n, "DELETE FROM t WHERE n = ?", (n,))
        self.assertEqual([len(text.arguments) for text in writes.taken()], [ROWS_MAX, 1, ROWS_MAX, 1])
