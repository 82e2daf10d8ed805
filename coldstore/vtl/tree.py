"""
Names: the tree of files in memory, and what LTFS allows in it.

Names are normalised to NFC and hold at most 255 characters; only valid UTF-8 is taken. Hard links do not exist. Every change makes the
volume dirty; none reaches the medium before an index is written.
"""

import errno
import os
import time
import unicodedata

from coldstore.vtl.index import Index, Node

NAME_CHARACTERS = 255


def refused(code: int) -> OSError:
    """Return the ``OSError`` for an errno."""
    return OSError(code, os.strerror(code))


def normal_name(name: str) -> str:
    """Return a name as the volume knows it. Raises ``OSError``: EINVAL or ENAMETOOLONG."""
    if name.isascii():
        normal = name
    else:
        try:
            name.encode("utf-8")
        except UnicodeEncodeError:
            raise refused(errno.EINVAL) from None
        normal = unicodedata.normalize("NFC", name)
        if "\ufffe" in normal or "\uffff" in normal:
            raise refused(errno.EINVAL)
    if len(normal) > NAME_CHARACTERS:
        raise refused(errno.ENAMETOOLONG)
    return normal


class Tree:
    """The files of one volume."""

    def __init__(self, index: Index) -> None:
        """Take the tree of an index."""
        self.index = index
        self.dirty = False

    @property
    def root(self) -> Node:
        """The root directory; its uid is 1."""
        return self.index.root

    def find(self, path: str) -> Node:
        """Return what a path names. Raises ``OSError``: ENOENT, ENOTDIR."""
        node = self.root
        for part in path.split("/"):
            if part:
                if node.kind != "directory":
                    raise refused(errno.ENOTDIR)
                found = node.children.get(part) or node.children.get(normal_name(part))
                if found is None:
                    raise refused(errno.ENOENT)
                node = found
        return node

    def add(self, path: str, kind: str, target: str = "") -> Node:
        """Make a file, directory or symbolic link. Raises ``OSError``: EEXIST and what :meth:`find` raises."""
        parent, name = self._place(path)
        if name in parent.children:
            raise refused(errno.EEXIST)
        now = time.time_ns()
        self.index.highest_uid += 1
        node = Node(
            uid=self.index.highest_uid, name=name, kind=kind, times=[now] * 5, parent=parent, target=target
        )
        parent.children[name] = node
        self.touched(parent)
        return node

    def remove(self, path: str, *, directory: bool) -> Node:
        """Take a name away. Raises ``OSError``: EISDIR, ENOTDIR, ENOTEMPTY."""
        node = self.find(path)
        if directory and node.kind != "directory":
            raise refused(errno.ENOTDIR)
        if not directory and node.kind == "directory":
            raise refused(errno.EISDIR)
        if node.children:
            raise refused(errno.ENOTEMPTY)
        self._detach(node)
        return node

    def rename(self, old: str, new: str) -> None:
        """Give another name, replacing a file or an empty directory that has it."""
        node = self.find(old)
        parent, name = self._place(new)
        there = parent.children.get(name)
        if there is node:
            return
        above: Node | None = parent
        while above is not None:
            if above is node:
                raise refused(errno.EINVAL)
            above = above.parent
        if there is not None:
            if there.kind == "directory" and node.kind != "directory":
                raise refused(errno.EISDIR)
            if there.kind != "directory" and node.kind == "directory":
                raise refused(errno.ENOTDIR)
            if there.children:
                raise refused(errno.ENOTEMPTY)
            self._detach(there)
        self._detach(node)
        node.name, node.parent, node.linked = name, parent, True
        parent.children[name] = node
        self.touched(parent)

    def touched(self, node: Node) -> None:
        """Note a change of content now."""
        node.times[1] = node.times[3] = time.time_ns()
        self.dirty = True

    def path_of(self, node: Node) -> str:
        """Return a node's path inside the volume, with a leading slash."""
        parts = []
        above: Node | None = node
        while above is not None and above.parent is not None:
            parts.append(above.name)
            above = above.parent
        return "/" + "/".join(reversed(parts))

    def _place(self, path: str) -> tuple[Node, str]:
        above, _, name = path.rpartition("/")
        parent = self.find(above)
        if parent.kind != "directory":
            raise refused(errno.ENOTDIR)
        return parent, normal_name(name)

    def _detach(self, node: Node) -> None:
        if node.parent is None:
            raise refused(errno.EBUSY)
        del node.parent.children[node.name]
        node.linked = False
        self.touched(node.parent)
