"""How rows lie in etcd: keys in the order of primary keys, values that come back as they were."""

from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from coldstore.metadata.etcd.keys import Keys, NotARow, row_of, value_of
from coldstore.metadata.sql.tables import BY_NAME, TABLES, Column, Kind, Table

KEYS = Keys("/coldstore")
TEXTS = [
    "",
    "\0",
    "\0\0",
    "\0/",
    "/",
    "0",
    "a",
    "a\0",
    "a\0b",
    "a/b",
    "ab",
    "\x01",
    "\u00e4",
    "\U0001f4fc",
    "0" * 40,
]
BYTES = [b"", b"\0", b"\0\xff", b"\0/", b"/", b"a", b"a\0", b"\xff", b"\xff\0", b"\xff\xff"]
NUMBERS = [0, 1, 9, 10, 15, 16, 255, 256, 2**32, 2**63 - 1, -1, -15, -16, -17, -256, -(2**63)]


def some(kind: Kind, chance: Random) -> Any:
    """Return a value of a kind."""
    match kind:
        case Kind.INTEGER:
            return chance.choice(NUMBERS)
        case Kind.REAL:
            return chance.choice([0.0, 1.0, 1700000000.123456, -0.5, 1e300, 5e-324])
        case Kind.TEXT:
            return chance.choice([*TEXTS, '{"x": "\\"quoted\\""}', "line\nbreak\x7f\u2028"])
        case Kind.BYTES:
            return chance.choice(BYTES)


class KeyTests(SynchronousTestCase):
    """Keys."""

    def in_order(self, table: Table, keys: list[tuple[Any, ...]]) -> None:
        """The keys of a table come in the order of its primary keys, and tell them."""
        raw = [KEYS.of_row(table, key) for key in sorted(keys)]
        self.assertEqual(raw, sorted(set(raw)))
        self.assertEqual([KEYS.table_of(key) for key in raw], [(table, key) for key in sorted(keys)])

    def test_numbers(self) -> None:
        """Numbers of 64 bits, with a sign."""
        chance = Random(1)
        many = {
            *NUMBERS,
            *(
                chance.randrange(-(2 ** chance.randrange(1, 64)), 2 ** chance.randrange(1, 64))
                for _ in range(500)
            ),
        }
        self.in_order(BY_NAME["versions"], [(number,) for number in many])

    def test_texts(self) -> None:
        """Texts, in the order of their UTF-8."""
        keys = [(text,) for text in TEXTS]
        self.assertEqual([text for (text,) in sorted(keys)], sorted(TEXTS, key=str.encode))
        self.in_order(BY_NAME["layouts"], keys)

    def test_several_columns(self) -> None:
        """A text and a number, two texts, bytes and a text: the first column decides, whatever is in it."""
        self.in_order(BY_NAME["pieces"], [(text, number) for text in TEXTS for number in NUMBERS])
        self.in_order(BY_NAME["copies"], [(text, other) for text in TEXTS for other in TEXTS])

    def test_bytes(self) -> None:
        """Bytes, also such as are no text."""
        table = Table(
            name="versions", columns=(Column("a", Kind.BYTES), Column("b", Kind.BYTES)), key=("a", "b")
        )
        keys = Keys("/coldstore", [table])
        raw = [keys.of_row(table, (one, other)) for one in sorted(BYTES) for other in sorted(BYTES)]
        self.assertEqual(raw, sorted(set(raw)))

    def test_what_it_looks_like(self) -> None:
        """As the module says."""
        self.assertEqual(KEYS.of_row(BY_NAME["pieces"], ("ab", 255)), b"/coldstore/pieces/ab\0/2ff")
        self.assertEqual(KEYS.of_row(BY_NAME["store"], (1,)), b"/coldstore/store/11")
        self.assertEqual(
            (KEYS.schema, KEYS.writer, KEYS.batch, KEYS.of_number(BY_NAME["outbox"])),
            (b"/coldstore/schema", b"/coldstore/writer", b"/coldstore/batch", b"/coldstore/numbers/outbox"),
        )

    def test_other_keys(self) -> None:
        """What is no row is told from what should be one."""
        for other in (
            KEYS.schema,
            KEYS.writer,
            KEYS.batch,
            KEYS.all + b"stranger/1",
            KEYS.of_number(BY_NAME["outbox"]),
        ):
            self.assertIsNone(KEYS.table_of(other))
        self.assertEqual(KEYS.numbered_by(KEYS.of_number(BY_NAME["outbox"])), BY_NAME["outbox"])
        self.assertIsNone(KEYS.numbered_by(KEYS.batch))
        self.assertIsNone(KEYS.numbered_by(KEYS.all + b"numbers/strangers"))
        for broken in (
            b"versions/",
            b"versions/2f",
            b"versions/1F",
            b"versions/-",
            b"versions/x",
            b"pieces/a",
            b"layouts/\xff",
        ):
            self.assertRaises(NotARow, KEYS.table_of, KEYS.all + broken)


class ValueTests(SynchronousTestCase):
    """Values."""

    def test_round_trip(self) -> None:
        """Rows of every table come back as they were, each value of its own type."""
        chance = Random(2)
        for table in TABLES:
            for _ in range(100):
                row = tuple(
                    None if column.nullable and chance.random() < 0.3 else some(column.kind, chance)
                    for column in table.columns
                )
                key = tuple(row[place] for place in table.key_places)
                found = row_of(table, key, value_of(table, row), {})
                self.assertEqual(found, row)
                self.assertEqual([type(value) for value in found], [type(value) for value in row])

    def test_what_is_not_there(self) -> None:
        """What is null takes no room, nor what is in the key; a column that is not there has its default."""
        table = BY_NAME["users"]
        nothing = (None,) * (len(table.columns) - 3)
        row = ("id", "n\u00e4me", 1.5, *nothing)
        self.assertEqual(
            value_of(table, row).decode(),
            '{"name":"n\u00e4me","created_at":1.5}',
        )
        self.assertEqual(
            row_of(table, ("id",), b'{"name":"n"}', {"created_at": 7.0}), ("id", "n", 7.0, *nothing)
        )

    def test_whole_numbers_of_a_column_of_reals(self) -> None:
        """They are floats all the same: whoever wrote the JSON may have left the fraction out."""
        (_, began_at, _) = row_of(BY_NAME["epochs"], (1,), b'{"began_at": 5}', {})
        self.assertIsInstance(began_at, float)

    def test_no_row(self) -> None:
        """What is no JSON object, or has no base64 where bytes should be, is refused by name."""
        for broken in (b"", b"[1]", b"{", b'"x"', b"\xff", b"7"):
            self.assertRaises(NotARow, row_of, BY_NAME["epochs"], (1,), broken, {})
        refusal = self.assertRaises(NotARow, row_of, BY_NAME["versions"], (1,), b'{"key": "!"}', {})
        self.assertIn("versions", str(refusal))
