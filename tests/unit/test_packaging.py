"""What ``debian/`` says again about the product is what the product says."""

import argparse
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from coldstore.admin import main as admin
from coldstore.config.reading import load
from coldstore.util.version import VERSION
from coldstore.vtl import main as vtl

DEBIAN = Path(__file__).parents[2] / "debian"


def commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command of a command line, at any depth, with its own parser."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield name, below
                yield from commands(below)


def words(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Every word to choose from and every long option of one command."""
    for action in parser._actions:
        yield from map(str, action.choices or ())
        yield from (option for option in action.option_strings if option.startswith("--"))


def unnamed(page: str, wanted: Iterable[str]) -> set[str]:
    """Those words that a manual page does not name."""
    plain = re.sub(r"\\f[BIR]", "", (DEBIAN / page).read_text()).replace(r"\-", "-")
    return set(wanted) - set(re.findall(r"[\w-]+", plain)) - {"--help"}


class PackagingTests(SynchronousTestCase):
    """Versions, settings, manual pages."""

    def test_version(self) -> None:
        """The newest entry of the changelog is for the version of the product."""
        self.assertTrue((DEBIAN / "changelog").read_text().startswith(f"coldstore ({VERSION}) "))

    def test_configuration(self) -> None:
        """The file that is installed changes no default: a trial on the virtual library, on the loopback address."""
        self.assertEqual(load(str(DEBIAN / "coldstore.yaml"), {}), load(None, {}))

    def test_manual(self) -> None:
        """The operator's manual page names every command, action and option, and no other command."""
        parser = admin._parser()
        section = (DEBIAN / "coldstore.1").read_text().partition(".SH COMMANDS")[2].partition(".SH")[0]
        told = re.findall(r"^\.TP\n(?:\.B |\\fB)(\w+)", section, re.MULTILINE)
        (choice,) = (each for each in parser._actions if isinstance(each, argparse._SubParsersAction))
        self.assertEqual(sorted(told), sorted(choice.choices))
        said = [*words(parser), *(word for _, below in commands(parser) for word in words(below))]
        self.assertEqual(unnamed("coldstore.1", said), set())

    def test_manual_of_the_virtual_library(self) -> None:
        """The one of ``coldstore-vtl`` names every command."""
        self.assertEqual(unnamed("coldstore-vtl.1", (name for name, _ in commands(vtl._parser()))), set())
