"""The folder in which the appliance has its metadata dumped."""

from twisted.internet.defer import Deferred
from zope.interface import Interface

from coldstore.model.dumps import Dump


class DumpFault(Exception):
    """There is no dump; says why, for an operator."""


class IDumps(Interface):
    """Dumps that are made on schedule; others in the same folder are none of them."""

    def kept() -> list[Dump]:
        """
        Return those that are there, oldest first.

        :raise OSError: nobody can say
        """

    def free_bytes() -> int:
        """
        Return what the folder's file system has left.

        :raise OSError: nobody can say
        """

    def make(at: float) -> "Deferred[None]":
        """
        Make one.

        Its rows are those of one moment, and whoever uses the metadata meanwhile is not kept from it. Cancelling gives up.

        :param at: unix seconds, which it is named by
        :return: fires when all of it is durable; fails with ``DumpFault``, and then there is nothing
        """

    def remove(dump: Dump) -> None:
        """
        Remove one. Repeatable.

        :raise OSError: it is still there
        """
