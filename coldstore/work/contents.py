"""
The contents of bundles that wait for a drive, made ready ahead of it: a drive that waits for us stops the tape.

To make one takes much longer than to write it when its members are small. So the packer has it made when it freezes a bundle, the copies
of a bundle share it, and while one is written the next is made. None of it is needed: what is not there is made again from the records,
the same to the byte.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from twisted.internet.defer import CancelledError, Deferred, DeferredLock, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from coldstore.interfaces.metadata import IMetadataStore, MemberVersion
from coldstore.interfaces.mover import DestinationFault, Piece
from coldstore.interfaces.staging import DiskFault, IStaging
from coldstore.model.bundles import Bundle, BundleState
from coldstore.model.errors import MetadataUnavailable
from coldstore.work.content import BundleContent, Draft, bundle_content

KEPT_BYTES = 256 * 1024 * 1024
"""Headers and manifests that are kept, in all: those of some 90,000 small members."""
KEPT_BUNDLES = 64
"""Bundles whose contents are kept: the bytes of their members cannot be moved meanwhile."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Kept:
    content: BundleContent
    users: int = 0
    uses: int = 0

    @property
    def size_bytes(self) -> int:
        """What it takes up beside the members' bytes."""
        return self.content.woven.size_bytes


class Loan:
    """The content of a bundle, to be written once."""

    def __init__(self, contents: "Contents", kept: _Kept) -> None:
        self._contents = contents
        self._kept: _Kept | None = kept
        self.bundle = kept.content.bundle
        self._pieces = kept.content.pieces()

    def pieces(self) -> Iterator[Piece]:
        """Yield everything that the mover writes, in order."""
        return self._pieces

    def close(self) -> None:
        """Give it back. Repeatable."""
        kept, self._kept = self._kept, None
        if kept is not None:
            self._contents.returned(kept)


class Contents:
    """What is made ready."""

    log = Logger()

    def __init__(
        self,
        *,
        store: IMetadataStore,
        staging: IStaging,
        kept_bytes: int = KEPT_BYTES,
        kept_bundles: int = KEPT_BUNDLES,
    ) -> None:
        self._store = store
        self._staging = staging
        self._kept_bytes = kept_bytes
        self._kept_bundles = kept_bundles
        self._kept: dict[str, _Kept] = {}
        self._turn = DeferredLock()
        """One is made at a time."""
        self._expected: deque[str] = deque()
        self._making: Deferred[None] = succeed(None)

    async def of(self, bundle: Bundle) -> Loan:
        """
        Return the content of a FROZEN bundle, for one copy; made now if it is not there.

        :raise LookupError: bytes of a member are not on disk
        :raise DiskFault: the same
        :raise DestinationFault: the disk has no room for headers, or failed
        """
        await self._turn.acquire()
        try:
            kept = self._kept.get(bundle.bundle_id)
            if kept is None:
                content = await bundle_content(self._store, self._staging, bundle)
                kept = self._kept[bundle.bundle_id] = _Kept(content=content)
            kept.users += 1
            kept.uses += 1
        finally:
            self._turn.release()
        self._make_room(0, drops_fresh=True)
        self._go_on()
        return Loan(self, kept)

    async def add(self, bundle: Bundle, members: list[MemberVersion], draft: Draft) -> None:
        """Make the content of a bundle that was just frozen, if there is room for it. The draft is ours from now on."""
        if not self._make_room(draft.scratch.size_bytes):
            self._staging.drop_scratch(draft.scratch)
            return
        try:
            content = await bundle_content(self._store, self._staging, bundle, members=members, draft=draft)
        except (DiskFault, LookupError, DestinationFault):
            return  # whoever is to write it finds that out again, and tells
        if bundle.bundle_id in self._kept:
            content.close()
        else:
            self._kept[bundle.bundle_id] = _Kept(content=content)

    def expect(self, bundle_ids: Iterable[str]) -> None:
        """Make contents of these bundles ready, in this order and as far as there is room, beside everything else."""
        self._expected = deque(dict.fromkeys(bundle_ids))
        self._go_on()

    def forget(self, bundle_id: str) -> None:
        """Let go of a bundle's content: it is archived, or its content was found to be bad."""
        kept = self._kept.pop(bundle_id, None)
        if kept is not None and not kept.users:
            kept.content.close()

    def returned(self, kept: _Kept) -> None:
        """Somebody is through with a content; with the last copy it goes."""
        kept.users -= 1
        if kept.users:
            return
        bundle = kept.content.bundle
        if self._kept.get(bundle.bundle_id) is not kept:
            kept.content.close()
            return
        if kept.uses >= len(bundle.pools):
            self.forget(bundle.bundle_id)
        self._make_room(0, drops_fresh=True)
        self._go_on()

    async def close(self) -> None:
        """Let go of everything that nobody is writing."""
        self._expected.clear()
        self._making.cancel()
        for bundle_id in list(self._kept):
            self.forget(bundle_id)

    def _make_room(self, size_bytes: int, *, drops_fresh: bool = False) -> bool:
        """
        Tell whether one more of this size may be kept (or with size 0 what there is); drop such as wait for another copy to be made.

        :param drops_fresh: drop others too, those first that are written last
        """
        more = int(size_bytes > 0)

        def fits() -> bool:
            total = sum(kept.size_bytes for kept in self._kept.values())
            return total + size_bytes <= self._kept_bytes and len(self._kept) + more <= self._kept_bundles

        idle = [(bundle_id, kept) for bundle_id, kept in self._kept.items() if not kept.users]
        used = [bundle_id for bundle_id, kept in idle if kept.uses]
        fresh = sorted((bundle_id for bundle_id, kept in idle if not kept.uses), reverse=True)
        for bundle_id in used + (fresh if drops_fresh else []):
            if fits():
                break
            self.forget(bundle_id)
        return fits()

    def _go_on(self) -> None:
        if self._making.called and self._expected:
            self._making = Deferred.fromCoroutine(self._make_expected())
            self._making.addErrback(self._making_failed)

    async def _make_expected(self) -> None:
        while self._expected:
            bundle_id = self._expected[0]
            bundle = None if bundle_id in self._kept else await self._store.bundle(bundle_id)
            if bundle is not None and bundle.state is BundleState.FROZEN:
                if not self._make_room(bundle.size_bytes - bundle.content_bytes):
                    return
                await self._make(bundle)
            if self._expected and self._expected[0] == bundle_id:
                self._expected.popleft()

    async def _make(self, bundle: Bundle) -> None:
        await self._turn.acquire()
        try:
            if bundle.bundle_id not in self._kept:
                content = await bundle_content(self._store, self._staging, bundle)
                self._kept[bundle.bundle_id] = _Kept(content=content)
        except (DiskFault, LookupError, DestinationFault):
            return  # whoever is to write it finds that out again, and tells
        finally:
            self._turn.release()

    def _making_failed(self, failure: Failure) -> None:
        if not failure.check(CancelledError, MetadataUnavailable):
            self.log.failure("making contents of bundles ready failed", failure)
