"""Patterns of policies: wildcards, variables, and how long matching may take."""

import re
from collections.abc import Mapping
from time import process_time

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from coldstore.plan.policy.errors import MalformedPolicy
from coldstore.plan.policy.patterns import Pattern, plain_key

VALUES: Mapping[str, str] = {"aws:username": "ann*", "s3:prefix": ""}


def matches(pattern: str, text: str, **reading: bool) -> bool:
    """Tell whether a pattern is that of a text, in a request of the user ``ann*``."""
    return Pattern.read(pattern, **reading).matches(text, VALUES.get)


class PatternTests(SynchronousTestCase):
    """One pattern and one text."""

    def test_wildcards(self) -> None:
        """A star stands for anything, also nothing and slashes, a question mark for one character."""
        for pattern, text, expected in (
            ("", "", True),
            ("", "a", False),
            ("*", "", True),
            ("*", "a/b\nc", True),
            ("a?c", "abc", True),
            ("a?c", "ac", False),
            ("?", "", False),
            ("a*b*c", "abc", True),
            ("a*b*c", "acb", False),
            ("ab*ba", "aba", False),
            ("a*", "ba", False),
            ("*.jpg", "x/y.jpg", True),
            ("*.jpg", "x/y.jpgs", False),
            ("a.c", "abc", False),
            ("**a**", "xax", True),
            ("*?", "", False),
            ("*??*", "ab", True),
            ("*?b*", "ab", True),
            ("*?b*", "ba", False),
            ("*b?d*e", "abcbcde", True),
            ("a*a", "a", False),
        ):
            self.assertIs(matches(pattern, text), expected, (pattern, text))

    def test_no_wildcards(self) -> None:
        """Where there are none, stars are stars."""
        self.assertTrue(matches("a*", "a*", wildcards=False))
        self.assertFalse(matches("a*", "ab", wildcards=False))

    def test_variables(self) -> None:
        """A variable stands for what the request has, whose stars are stars; without a value for its default, or nothing matches."""
        for pattern, text, expected in (
            ("home/${aws:username}/*", "home/ann*/k", True),
            ("home/${aws:username}/*", "home/annie/k", False),
            ("home/${AWS:UserName}", "home/ann*", True),
            ("${s3:prefix}x", "x", True),
            ("${aws:userid}", "", False),
            ("${aws:userid}*", "anything", False),
            ("${aws:userid, 'no one'}!", "no one!", True),
            ("a${*}b${?}c${$}", "a*b?c$", True),
            ("a${*}", "ab", False),
        ):
            self.assertIs(matches(pattern, text), expected, (pattern, text))
        self.assertTrue(matches("${aws:username}", "${aws:username}", variables=False))

    def test_what_is_known_of_it(self) -> None:
        """A pattern tells with what everything begins that it matches, whether it is fixed, and for what it asks."""
        pattern = Pattern.read("ab*${s3:ExistingObjectTag/A}")
        self.assertEqual((pattern.head, pattern.is_fixed), ("ab", False))
        self.assertEqual(pattern.keys, {"s3:existingobjecttag/A"})
        self.assertTrue(Pattern.read("ab").is_fixed)
        self.assertEqual(Pattern.read("*a").head, "")

    def test_variables_that_are_none(self) -> None:
        """Are refused."""
        for text in ("${", "${}", "${aws:username", "${a b}", "a${aws:username,}"):
            self.assertRaises(MalformedPolicy, Pattern.read, text)

    def test_keys(self) -> None:
        """Names of condition keys count in any case, those of tags as they are written."""
        self.assertEqual(plain_key("S3:ExistingObjectTag/Colour"), "s3:existingobjecttag/Colour")

    @given(st.text("ab*?", max_size=12), st.text("ab", max_size=12))
    def test_as_a_regular_expression(self, pattern: str, text: str) -> None:
        """It is what the regular expression says that means the same."""
        written = "".join({"*": ".*", "?": "."}.get(character, character) for character in pattern)
        self.assertIs(matches(pattern, text), re.fullmatch(written, text) is not None)

    def test_time(self) -> None:
        """Patterns that regular expressions never end with take no time."""
        started = process_time()
        for pattern in ("a*" * 5000 + "b", "*a?" * 5000 + "b", "*" + "?a" * 300 + "*b"):
            self.assertFalse(matches(pattern, "a" * 1024))
        self.assertLess(process_time() - started, 5)

    def test_time_with_variables(self) -> None:
        """Nor do variables take any that make a short pattern a very long one."""
        long = "x" * 7000
        started = process_time()
        self.assertFalse(matches_with(long, "*" + "${aws:useragent}?" * 1000 + "*", long))
        for number in range(100):
            self.assertFalse(matches_with(long[:3000], f"*${{aws:useragent}}?{number}*", long))
        self.assertLess(process_time() - started, 2)


def matches_with(value: str, pattern: str, text: str) -> bool:
    """Tell whether a pattern is that of a text in a request that has one value under every condition key."""
    return Pattern.read(pattern).matches(text, lambda _: value)
