"""The HTTP interface of the ``coldstore`` command, served on a UNIX socket, and the public ``/healthz`` and ``/metrics``."""

import json
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from klein import Klein
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import Request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from coldstore.admin import metrics, views
from coldstore.admin.asking import BadRequest, NotNow, argument_of, document_of, number_of, text_of
from coldstore.admin.datakeys import DataKeysDesk
from coldstore.admin.governing import Governing
from coldstore.admin.people import People
from coldstore.admin.permissions import Permissions
from coldstore.admin.quotas import SHOWN_MAX, Standings, quotas_of
from coldstore.interfaces.control import IControl
from coldstore.interfaces.datakeys import IDataKeys
from coldstore.interfaces.keyring import IKeyring, KeyFileFault
from coldstore.interfaces.library import LibraryFault
from coldstore.interfaces.metadata import Conflict, IMetadataStore
from coldstore.interfaces.process import CommandFault, LockHeld
from coldstore.model.bundles import BundleState
from coldstore.model.cartridges import (
    CARTRIDGE_TRANSITIONS,
    Cartridge,
    CartridgeEvent,
    CartridgeState,
    DriveState,
)
from coldstore.model.errors import ColdStoreError, NoSuchBucket, NoSuchKey
from coldstore.model.events import Severity
from coldstore.model.objects import Bucket, ObjectVersion
from coldstore.model.states import ImpossibleTransition, after
from coldstore.plan.classes import ClassRules
from coldstore.plan.quota import DefaultQuotas, fullest_first, standing_of_bucket

PAGE_MAX = 1000
ALERTS_MAX = 10_000
DAYS_MAX = 36_500
"""As in the configuration."""
SEVERITIES = (Severity.CRITICAL, Severity.WARNING, Severity.INFO)
DECIDED_ABOUT_CARTRIDGE = frozenset(
    {"cartridge-suspect", "cartridge-unusable", "copy-damaged", "verification-failed"}
)
"""Alerts that an operator's word about a cartridge answers."""


Answerer = Callable[[Request], Awaitable[object]]


def _days_max(document: Mapping[str, Any]) -> int | None:
    """Return a limit in days, null for the default."""
    value = document.get("days_max", "")
    if value is not None and (type(value) is not int or not 1 <= value <= DAYS_MAX):
        raise BadRequest(f"days_max must be a number of days from 1 to {DAYS_MAX}, or null for the default")
    return value


class OperatorInterface:
    """Answers the operator's questions and carries out his orders."""

    log = Logger()

    def __init__(
        self,
        *,
        store: IMetadataStore,
        control: IControl,
        clock: IReactorTime,
        host: str,
        rules: ClassRules,
        pools: Sequence[str],
        quotas: DefaultQuotas,
        day_seconds: float,
        keyring: IKeyring,
        blocks_public: bool,
        data_keys: IDataKeys,
        new_user_id: Callable[[], str],
        new_key: Callable[[], tuple[str, str]],
    ) -> None:
        """
        :param host: this machine (``Host.text``)
        :param quotas: of users and buckets that were given none of their own
        :param blocks_public: whether buckets block what is public of which nobody has said otherwise
        :param day_seconds: the length of a day in the rules of clients
        :param new_user_id: makes a canonical id
        :param new_key: makes an access key and its secret
        """
        self._quotas = quotas
        self._store = store
        self._control = control
        self._clock = clock
        self._host = host
        self._rules = rules
        self._pools = tuple(pools)
        self._standings = Standings(store=store, defaults=quotas)
        self._governing = Governing(store=store, control=control, clock=clock, day_seconds=day_seconds)
        self._people = People(
            store=store, clock=clock, quotas=quotas, keyring=keyring, new_user_id=new_user_id, new_key=new_key
        )
        self._data_keys = DataKeysDesk(store=store, clock=clock, data_keys=data_keys)

        self._permissions = Permissions(store=store, clock=clock, blocks_public=blocks_public)

    # ── applications ────────────────────────────────────────────────────────────────────────────────────────────────

    def private(self) -> Klein:
        """Return the application for the UNIX socket: everything."""
        app = Klein()
        for method, path, answerer in (
            ("GET", "/status", self._status),
            ("GET", "/objects", self._objects),
            ("GET", "/cartridges", self._cartridges),
            ("POST", "/cartridges/admit", self._admit),
            ("POST", "/cartridges/change", self._change_cartridge),
            ("GET", "/drives", self._drives),
            ("POST", "/drives/change", self._change_drive),
            ("GET", "/jobs", self._jobs),
            ("POST", "/archive", self._archive),
            ("POST", "/drain", self._drain),
            ("POST", "/inventory", self._inventory),
            *self._people.answerers(),
            *self._permissions.answerers(),
            *self._data_keys.answerers(),
            *self._governing.answerers(),
            ("POST", "/reload", self._reload),
            ("GET", "/buckets", self._buckets),
            ("POST", "/buckets/quota", self._set_bucket_quota),
            ("POST", "/buckets/restore-days", self._set_restore_days_max),
            ("GET", "/quotas", self._show_quotas),
            ("GET", "/alerts", self._alerts),
            ("POST", "/alerts/close", self._close_alert),
            ("GET", "/audit", self._audit),
        ):
            self._add(app, method, path, answerer)
        self._refuse_unknown(app)
        return app

    def public(self) -> Klein:
        """Return the application for the operator's TCP port: health and metrics, nothing that changes anything."""
        app = Klein()

        @app.route("/healthz", methods=["GET"])
        def healthz(request: Request) -> bytes:
            health = self._control.health()
            request.setResponseCode(200 if health.is_serving else 503)
            return _json(request, views.health_row(health))

        @app.route("/metrics", methods=["GET"])
        async def show_metrics(request: Request) -> bytes:
            text = metrics.exposition(
                health=self._control.health(),
                totals=await self._store.totals(),
                backlog=await self._store.backlog(),
                usage=self._control.usage(),
                cartridges=await self._store.cartridges(),
                drives=await self._store.drives(),
                standings=fullest_first(await self._standings.all())[:SHOWN_MAX],
                lifecycle=self._control.lifecycle(),
                now=self._clock.seconds(),
            )
            body = text.encode()
            request.responseHeaders.setRawHeaders(
                "content-type", ["text/plain; version=0.0.4; charset=utf-8"]
            )
            request.responseHeaders.setRawHeaders("content-length", [str(len(body))])
            return body

        @app.handle_errors(ColdStoreError)
        def unavailable(request: Any, failure: Failure) -> bytes:
            request.setResponseCode(503)
            return _json(request, {"error": str(failure.value) or type(failure.value).__name__})

        self._refuse_unknown(app)
        return app

    def _add(self, app: Klein, method: str, path: str, answerer: Answerer) -> None:
        async def answer(request: Request) -> bytes:
            try:
                return _json(request, await answerer(request))
            except BadRequest as bad:
                request.setResponseCode(400)
                return _json(request, {"error": str(bad)})
            except (NotNow, Conflict, KeyFileFault, LibraryFault, CommandFault, LockHeld) as refusal:
                request.setResponseCode(409)
                return _json(request, {"error": str(refusal)})
            except ColdStoreError as refusal:
                request.setResponseCode(404 if isinstance(refusal, NoSuchBucket | NoSuchKey) else 503)
                return _json(request, {"error": str(refusal) or (type(refusal).__doc__ or "").strip()})
            except Exception:  # noqa: BLE001 - an operator at work gets a sentence, and the log the whole story
                self.log.failure("{method} {path} failed", method=method, path=path)
                request.setResponseCode(500)
                return _json(request, {"error": "this is a mistake in ColdStore; its log has a traceback"})

        app.route(path, methods=[method], endpoint=f"{method} {path}")(answer)

    @staticmethod
    def _refuse_unknown(app: Klein) -> None:
        @app.handle_errors(NotFound, MethodNotAllowed)
        def unknown(request: Any, failure: Failure) -> bytes:
            error = failure.value
            assert isinstance(error, HTTPException) and error.code is not None
            request.setResponseCode(error.code)
            return _json(
                request, {"error": f"no such question: {request.method.decode()} {request.path.decode()}"}
            )

    # ── questions ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _status(self, _request: Request) -> object:
        return views.status_row(
            self._control.health(),
            await self._store.totals(),
            await self._store.backlog(),
            self._control.usage(),
            await self._store.drives(),
            self._control.lifecycle(),
            now=self._clock.seconds(),
        )

    async def _objects(self, request: Request) -> object:
        bucket = argument_of(request, "bucket")
        if not bucket:
            return [
                {"bucket": found.name, "owner": found.owner_id, "created_at": views.moment(found.created_at)}
                for found in await self._store.buckets(owner_id=None, after="", limit=PAGE_MAX)
            ]
        key = argument_of(request, "key")
        if key:
            try:
                if argument_of(request, "versions"):
                    limit = number_of(request, "limit", 100, most=PAGE_MAX)
                    return await self._versions(bucket, key.encode(), limit)
                return [await self._object(await self._store.current_version(bucket, key.encode()))]
            except NoSuchBucket as missing:
                raise NoSuchBucket(
                    f"there is no bucket {bucket}; `coldstore objects` lists them"
                ) from missing
            except NoSuchKey as missing:
                raise NoSuchKey(
                    f"there is no object {key} in {bucket}; `coldstore objects {bucket}` lists them"
                ) from missing
        prefix = argument_of(request, "prefix").encode()
        start = max(
            prefix,
            argument_of(request, "after").encode() + b"\x00" if argument_of(request, "after") else prefix,
        )
        limit = number_of(request, "limit", 100, most=PAGE_MAX)
        try:
            versions = await self._store.list_current(bucket, from_key=start, before_key=None, limit=limit)
        except NoSuchBucket as missing:
            raise NoSuchBucket(f"there is no bucket {bucket}; `coldstore objects` lists them") from missing
        return [await self._object(version) for version in versions if version.facts.key.startswith(prefix)]

    async def _versions(self, bucket: str, key: bytes, limit: int) -> list[views.Row]:
        """Return the versions and delete markers of a key, newest first; ``NoSuchKey`` when there is none."""
        page = await self._store.list_versions(
            bucket, prefix=key, delimiter=b"", after_key=b"", after_version_id="", max_entries=limit
        )
        # Of all keys that begin with it the key itself is the first.
        rows = [
            await self._object((await self._store.version_content(bucket, key, row.version_id))[0])
            for row in page.rows
            if row.shown[0] == key
        ]
        if not rows:
            raise NoSuchKey(bucket)
        return rows

    async def _object(self, version: ObjectVersion) -> views.Row:
        if version.is_marker:
            return views.object_row(version, [], wanted=0)
        copies = await self._store.copies(version_uid=version.version_uid)
        return views.object_row(version, copies, wanted=len(self._rules[version.facts.storage_class].pools))

    async def _cartridges(self, _request: Request) -> object:
        return [views.cartridge_row(cartridge) for cartridge in await self._store.cartridges()]

    async def _drives(self, _request: Request) -> object:
        activities = {activity.drive: activity for activity in self._control.activities()}
        return [views.drive_row(drive, activities.get(drive.index)) for drive in await self._store.drives()]

    async def _jobs(self, _request: Request) -> object:
        bundles = await self._store.bundles(
            states=[BundleState.FILLING, BundleState.FROZEN], settled=None, after="", limit=PAGE_MAX
        )
        return {
            "bundles": [
                views.bundle_row(bundle, await self._store.copies(bundle_id=bundle.bundle_id))
                for bundle in bundles
            ],
            "restores": [
                views.restore_row(version)
                for version in await self._store.ongoing_restores(on_disk=False, limit=PAGE_MAX)
            ],
            "drives": await self._drives(_request),
        }

    async def _buckets(self, request: Request) -> object:
        found = await self._store.buckets(
            owner_id=None,
            after=argument_of(request, "after"),
            limit=number_of(request, "limit", PAGE_MAX, most=PAGE_MAX),
        )
        names = {user.user_id: user.name for user in await self._store.users()}
        return [await self._bucket(bucket, names.get(bucket.owner_id, bucket.owner_id)) for bucket in found]

    async def _bucket(self, bucket: Bucket, owner: str) -> views.Row:
        use = await self._store.quota_use(bucket=bucket.name)
        standing = standing_of_bucket(bucket, use, self._quotas)
        return views.bucket_row(bucket, owner) | views.quota_row(standing)

    async def _show_quotas(self, request: Request) -> object:
        found = await self._standings.all()
        if argument_of(request, "all") != "1":
            found = fullest_first(found)
        return {
            "standings": [views.standing_row(standing) for standing in found[:SHOWN_MAX]],
            "left_out": max(0, len(found) - SHOWN_MAX),
        }

    async def _alerts(self, request: Request) -> object:
        found = await self._store.alerts(include_cleared=argument_of(request, "all") == "1", limit=PAGE_MAX)
        found = sorted(
            found, key=lambda alert: (alert.cleared_at is not None, SEVERITIES.index(alert.severity))
        )
        return [views.alert_row(alert) for alert in found]

    async def _audit(self, request: Request) -> object:
        before = argument_of(request, "before")
        found = await self._store.audit_trail(
            before_id=number_of(request, "before", 0, most=2**62) if before else None,
            limit=number_of(request, "limit", 100, most=PAGE_MAX),
        )
        return [views.audit_row(event) for event in found]

    # ── orders ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _admit(self, request: Request) -> object:
        document = document_of(request)
        by, pool = text_of(document, "by"), text_of(document, "pool", "")
        if pool and pool not in self._pools:
            raise BadRequest(f"there is no pool {pool!r}; the pools are {', '.join(self._pools)}")
        wanted = document.get("barcodes")
        known = {cartridge.barcode: cartridge for cartridge in await self._store.cartridges()}
        if wanted is None:
            barcodes = sorted(
                barcode
                for barcode, cartridge in known.items()
                if cartridge.state is CartridgeState.UNADMITTED and cartridge.is_present
            )
        elif isinstance(wanted, list) and all(isinstance(barcode, str) for barcode in wanted):
            barcodes = wanted
        else:
            raise BadRequest("barcodes must be a list of barcodes")
        unknown = [barcode for barcode in barcodes if barcode not in known]
        if unknown:
            raise BadRequest(f"not in the library and never seen: {', '.join(unknown)}")
        for barcode in barcodes:
            _state_after(known[barcode], CartridgeEvent.ADMIT)
        admitted = []
        for barcode in barcodes:
            now = self._clock.seconds()
            changed = replace(
                known[barcode],
                state=CartridgeState.SCRATCH,
                pool=pool,
                admitted_at=now,
                admitted_by=by,
                reason="admitted by an operator",
                changed_at=now,
                changed_by=by,
            )
            admitted.append(views.cartridge_row(await self._store.record_cartridge(changed, audit="admit")))
        self._control.drives_changed()
        return admitted

    async def _change_cartridge(self, request: Request) -> object:
        document = document_of(request)
        by, barcode, reason = (text_of(document, name) for name in ("by", "barcode", "reason"))
        events = {
            "withdraw": CartridgeEvent.WITHDRAW,
            "trust": CartridgeEvent.TRUST,
            "condemn": CartridgeEvent.CONDEMN,
        }
        action = text_of(document, "action")
        if action not in events:
            raise BadRequest(f"no such action: {action!r}; there are {', '.join(events)}")
        cartridge = await self._store.cartridge(barcode)
        if cartridge is None:
            raise BadRequest(f"no cartridge {barcode} was ever seen")
        changed = replace(
            cartridge,
            state=_state_after(cartridge, events[action]),
            reason=reason,
            changed_at=self._clock.seconds(),
            changed_by=by,
        )
        row = views.cartridge_row(await self._store.record_cartridge(changed, audit=action))
        await self._close_alerts(f"cartridge {barcode}", DECIDED_ABOUT_CARTRIDGE)
        self._control.drives_changed()
        return row

    async def _change_drive(self, request: Request) -> object:
        document = document_of(request)
        index = document.get("drive")
        if type(index) is not int or index not in {drive.index for drive in await self._store.drives()}:
            raise BadRequest(f"there is no drive {index!r}")
        try:
            state = DriveState(text_of(document, "state"))
        except ValueError as error:
            raise BadRequest("state must be up or down") from error
        drive = await self._store.set_drive_state(
            index=index,
            state=state,
            reason=text_of(document, "reason"),
            at=self._clock.seconds(),
            by=text_of(document, "by"),
            # Whoever says that it may be used says it of this machine: whatever had it before is done with it.
            host=self._host if state is DriveState.UP else None,
        )
        if state is DriveState.UP:
            await self._close_alerts(f"drive {index}", ("drive-down",))
        self._control.drives_changed()
        return views.drive_row(drive, None)

    async def _archive(self, _request: Request) -> object:
        self._control.archive_now()
        return {"accepted": True}

    async def _drain(self, request: Request) -> object:
        is_draining = document_of(request).get("on")
        if not isinstance(is_draining, bool):
            raise BadRequest("on must be true or false")
        self._control.drain(is_draining)
        return {"draining": is_draining}

    async def _reload(self, _request: Request) -> object:
        return {"reloaded": list(await self._control.reload())}

    async def _inventory(self, _request: Request) -> object:
        await self._control.look_at_library()
        return await self._cartridges(_request)

    async def _set_bucket_quota(self, request: Request) -> object:
        document = document_of(request)
        name, quotas = text_of(document, "name"), quotas_of(document)
        try:
            bucket = await self._store.set_bucket_quotas(name=name, quotas=quotas)
        except NoSuchBucket as missing:
            raise NoSuchBucket(f"there is no bucket {name}; `coldstore bucket list` lists them") from missing
        await self._people.audit_quotas(document, f"bucket {name}", quotas)
        return await self._owned(bucket)

    async def _set_restore_days_max(self, request: Request) -> object:
        document = document_of(request)
        name, by, days_max = text_of(document, "name"), text_of(document, "by"), _days_max(document)
        try:
            bucket = await self._store.set_restore_days_max(name=name, days_max=days_max)
        except NoSuchBucket as missing:
            raise NoSuchBucket(f"there is no bucket {name}; `coldstore bucket list` lists them") from missing
        await self._store.audit(
            at=self._clock.seconds(),
            who=by,
            what="set limit of restores",
            subject=f"bucket {name}",
            detail="default" if days_max is None else f"{days_max} days",
        )
        return await self._owned(bucket)

    async def _owned(self, bucket: Bucket) -> object:
        names = {user.user_id: user.name for user in await self._store.users()}
        return await self._bucket(bucket, names.get(bucket.owner_id, bucket.owner_id))

    async def _close_alert(self, request: Request) -> object:
        document = document_of(request)
        by, alert_id = text_of(document, "by"), document.get("id")
        found = await self._store.alerts(include_cleared=False, limit=ALERTS_MAX)
        alert = next((alert for alert in found if alert.alert_id == alert_id), None)
        if type(alert_id) is not int or alert is None:
            raise BadRequest(f"no alert {alert_id!r} is open")
        now = self._clock.seconds()
        await self._store.clear_alert(kind=alert.kind, subject=alert.subject, at=now)
        await self._store.audit(
            at=now, who=by, what="close alert", subject=alert.subject, detail=alert.sentence
        )
        return views.alert_row(replace(alert, cleared_at=now))

    async def _close_alerts(self, subject: str, kinds: Collection[str]) -> None:
        """Close what an operator has just decided about."""
        for alert in await self._store.alerts(include_cleared=False, limit=ALERTS_MAX):
            if alert.subject == subject and alert.kind in kinds:
                await self._store.clear_alert(kind=alert.kind, subject=subject, at=self._clock.seconds())


PARTICIPLES = MappingProxyType(
    {
        CartridgeEvent.ADMIT: "admitted: only an unadmitted cartridge can",
        CartridgeEvent.WITHDRAW: "withdrawn: only one that holds nothing of ours can",
        CartridgeEvent.TRUST: "trusted: only a suspect one can",
        CartridgeEvent.CONDEMN: "condemned once more",
    }
)


def _state_after(cartridge: Cartridge, event: CartridgeEvent) -> CartridgeState:
    """
    Return what an operator's decision makes of a cartridge.

    :raise NotNow: it cannot be decided in its state; says so in words
    """
    try:
        return after(CARTRIDGE_TRANSITIONS, cartridge.state, event)
    except ImpossibleTransition as impossible:
        raise NotNow(
            f"{cartridge.barcode} is {cartridge.state.value} and cannot be {PARTICIPLES[event]}"
        ) from impossible


def _json(request: Request, value: object) -> bytes:
    body = json.dumps(value, ensure_ascii=False, indent=2).encode() + b"\n"
    request.responseHeaders.setRawHeaders("content-type", ["application/json; charset=utf-8"])
    request.responseHeaders.setRawHeaders("content-length", [str(len(body))])
    return body
