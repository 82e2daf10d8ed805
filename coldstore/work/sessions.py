"""The manifest that a session leaves on its cartridge, so that a rebuild need not read the data partition."""

from random import Random

from twisted.internet.interfaces import IReactorTime

from coldstore.interfaces.filesystem import IMountedVolume
from coldstore.interfaces.metadata import BATCH_MAX, IMetadataStore
from coldstore.ontape import paths
from coldstore.ontape.manifest import BundleFile, SessionFacts, SessionManifestWriter
from coldstore.work.content import bundle_layout

BUNDLES_MAX = 4096
"""Bundles that one session manifest names; the rest waits for the next session."""


class SessionWriter:
    """Writes session manifests, and remembers them once their unmount was proven."""

    def __init__(self, *, store: IMetadataStore, clock: IReactorTime, random: Random) -> None:
        self._store = store
        self._clock = clock
        self._random = random
        self._named: dict[str, list[str]] = {}

    async def before_unmount(self, volume: IMountedVolume) -> str:
        """
        Write one manifest of every bundle on the volume that no proven manifest names.

        :return: the session's id, "" when there was nothing to write
        """
        bundles = (await self._store.unmanifested(volume.barcode))[:BUNDLES_MAX]
        if not bundles:
            return ""
        copies = {copy.bundle_id: copy for copy in await self._store.copies(barcode=volume.barcode)}
        now = self._clock.seconds()
        session_id = paths.session_id(int(now * 1000), self._random.getrandbits(80))
        writer = SessionManifestWriter(
            SessionFacts(
                session_id=session_id,
                created_at=now,
                appliance_id=self._store.appliance_id,
                pool=copies[bundles[0].bundle_id].pool,
                barcode=volume.barcode,
                volume_uuid=volume.volume_uuid,
            )
        )
        for bundle in bundles:
            copy = copies[bundle.bundle_id]
            writer.add(
                BundleFile(
                    bundle_id=bundle.bundle_id,
                    size_bytes=bundle.size_bytes,
                    sha256=bundle.sha256,
                    partition=copy.partition,
                    start_block=copy.start_block,
                ),
                await bundle_layout(self._store, bundle),
            )
        await volume.mover.put_file(path=paths.session_path(session_id), content=writer.finish())
        self._named[session_id] = [bundle.bundle_id for bundle in bundles]
        return session_id

    async def after_unmount(self, barcode: str, session_id: str) -> None:
        """The volume was closed cleanly: the manifest is on tape."""
        named = self._named.pop(session_id, [])
        for start in range(0, len(named), BATCH_MAX):
            await self._store.mark_manifested(
                barcode=barcode, session_id=session_id, bundle_ids=named[start : start + BATCH_MAX]
            )
