"""The adapters of a real machine: its disk, its database, its library or a virtual one, its network."""

import os
from pathlib import Path
from random import Random, SystemRandom
from typing import Any

import treq
from treq.client import HTTPClient
from twisted.web.client import Agent, HTTPConnectionPool

from coldstore.appliance import policies
from coldstore.appliance.adapters import TapeSide
from coldstore.appliance.clocks import TimeOfDay, wakeful_ticks
from coldstore.appliance.dumps import ProcessDumps
from coldstore.appliance.form import demand_form
from coldstore.appliance.home import demand_home
from coldstore.appliance.library import build_tape_side, check_recorded_cartridges
from coldstore.appliance.standby import Turn
from coldstore.appliance.tenure import Tenure, later_run
from coldstore.config.schema import Configuration, Webhook
from coldstore.disk.staging import DiskStaging
from coldstore.interfaces.metadata import IMetadataStore
from coldstore.interfaces.tenure import ITenure
from coldstore.keys.datafile import DataKeyFile
from coldstore.keys.keyfile import KeyFile
from coldstore.metadata.choice import folder_of, store_of
from coldstore.model.cartridges import VolumeForm
from coldstore.model.hosts import Host
from coldstore.notify.webhook import WebhookNotifier, WebhookTarget
from coldstore.tape.process import ReactorCommandRunner
from coldstore.util.statedir import StateDirectory
from coldstore.util.workers import Workers
from coldstore.work.activity import ActivityBoard
from coldstore.work.sessions import SessionWriter


class Machine:
    """See ``Adapters``."""

    def __init__(
        self, settings: Configuration, reactor: Any, *, host: Host, turn: Turn, directory: StateDirectory
    ) -> None:
        """
        :param turn: waits for what another appliance has
        :param directory: the state directory, which is held
        """
        self.host = host
        self._directory = directory
        self._turn = turn
        self._settings = settings
        self._reactor = reactor
        self.clock: Any = TimeOfDay(reactor)
        self.unguessable: Random = SystemRandom()
        self.ordinary = Random(self.unguessable.getrandbits(128))

    def store(self) -> IMetadataStore:
        """See ``Adapters``."""
        return store_of(self._settings, self._reactor)

    async def open(self, store: IMetadataStore) -> None:
        """See ``Adapters``."""
        await self._turn.take(store.open)

    async def demand_match(self, store: IMetadataStore) -> None:
        """See ``Adapters``."""
        settings = self._settings
        await demand_home(
            store,
            state_directory=Path(settings.state_directory),
            staging_directory=Path(settings.staging_directory),
            where=settings.sqlite_path
            if settings.metadata.backend == "sqlite"
            else settings.metadata.backend,
        )
        await check_recorded_cartridges(settings, store)
        await demand_form(
            VolumeForm(settings.tape.filesystem), state_directory=Path(settings.state_directory), store=store
        )

    def tenure(self, *, store: IMetadataStore, epoch: int) -> Tenure:
        """See ``Adapters``. Its thread is never joined: a file server that is out of reach must not hold up the end."""
        threads = Workers(self._reactor, 1, "tenure")

        def who_holds_the_directory() -> str | None:
            holder = self._directory.other_holder()
            path = self._directory.path
            return None if holder is None else f"another appliance has taken over {path}: {holder}"

        return Tenure(
            questions=(later_run(store, epoch), lambda: threads.run(who_holds_the_directory)),
            clock=self._reactor,
            ticks=wakeful_ticks,
        )

    def key_file(self) -> KeyFile:
        """See ``Adapters``."""
        return KeyFile(self._settings.key_file)

    def data_key_file(self) -> DataKeyFile:
        """See ``Adapters``."""
        return DataKeyFile(self._settings.data_key_file)

    def staging(self, epoch: int) -> DiskStaging:
        """See ``Adapters``."""
        settings = self._settings
        staging = settings.staging
        return DiskStaging(
            reactor=self.clock,
            random=self.ordinary,
            run=base36(epoch),
            directory=Path(settings.staging_directory),
            capacity_bytes=staging.capacity_bytes,
            min_free_bytes=staging.min_free_bytes,
            shares=policies.disk_shares(settings),
            small_limit_bytes=staging.small_object_bytes,
            segment_bytes=staging.segment_bytes,
            hashing_threads=max(2, staging.threads // 2),
            reading_threads=max(2, staging.threads // 2),
        )

    def tape_side(
        self, *, store: IMetadataStore, tenure: ITenure, board: ActivityBoard, sessions: SessionWriter
    ) -> TapeSide:
        """See ``Adapters``."""
        return build_tape_side(
            self._settings,
            self.clock,
            store=store,
            tenure=tenure,
            random=self.ordinary,
            board=board,
            sessions=sessions,
            host=self.host,
        )

    def ticks(self) -> float:
        """See ``Adapters``."""
        return wakeful_ticks()

    def record_free_bytes(self) -> int | None:
        """See ``Adapters``: for a process that is not root."""
        folder = folder_of(self._settings)
        if folder is None:
            return None
        state = os.statvfs(folder)
        return state.f_bavail * state.f_frsize

    def dumps(self) -> ProcessDumps:
        """See ``Adapters``."""
        return ProcessDumps(self._settings, ReactorCommandRunner(self.clock, os.environ), os.environ)

    def notifier(self) -> WebhookNotifier:
        """See ``Adapters``."""
        notify = self._settings.notify
        pool = HTTPConnectionPool(self._reactor, persistent=False)
        return WebhookNotifier(
            targets=[_target(webhook) for webhook in notify.webhooks],
            post=HTTPClient(Agent(self._reactor, pool=pool, connectTimeout=notify.timeout_seconds)).post,
            clock=self.clock,
            timeout_seconds=notify.timeout_seconds,
            read_body=treq.content,
        )

    def workers(self, count: int, name: str) -> Workers:
        """See ``Adapters``."""
        return Workers(self.clock, count, name)


def base36(number: int) -> str:
    """Write a positive number in 0-9 and a-z."""
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    text = ""
    while True:
        number, digit = divmod(number, 36)
        text = digits[digit] + text
        if not number:
            return text


def _target(webhook: Webhook) -> WebhookTarget:
    secret = None if webhook.secret_file is None else Path(webhook.secret_file).read_bytes().strip()
    return WebhookTarget(name=webhook.name, url=webhook.url, secret=secret, events=webhook.events)
