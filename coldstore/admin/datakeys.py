"""Keys of data, as an operator sees and changes them. They are in the answer to whoever has them exported, and in no other."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.web.http import Request

from coldstore.admin import views
from coldstore.admin.asking import BadRequest, NotNow, document_of, text_of
from coldstore.interfaces.datakeys import IDataKeys
from coldstore.interfaces.metadata import IMetadataStore
from coldstore.model.datakeys import DataKeyState
from coldstore.model.errors import DataKeyMissing

Answerer = Callable[[Request], Awaitable[object]]


class DataKeysDesk:
    """Answers questions about keys of data, and carries out orders."""

    def __init__(self, *, store: IMetadataStore, clock: IReactorTime, data_keys: IDataKeys) -> None:
        """See ``OperatorInterface``."""
        self._store = store
        self._clock = clock
        self._data_keys = data_keys

    def answerers(self) -> Sequence[tuple[str, str, Answerer]]:
        """Return what is answered: method, path, and by what."""
        return (
            ("GET", "/data-keys", self._list),
            ("POST", "/data-keys/rotate", self._rotate),
            ("POST", "/data-keys/export", self._export),
            ("POST", "/data-keys/exported", self._exported),
            ("POST", "/data-keys/import", self._import),
        )

    async def _list(self, _request: Request) -> object:
        return [data_key_row(state) for state in await self._data_keys.states()]

    async def _rotate(self, request: Request) -> object:
        document = document_of(request)
        before = self._data_keys.in_use() or ""
        key_id = await self._data_keys.rotate()
        await self._audit(document, "change key of data", before, key_id)
        return {"key": key_id, "key_before": before, "key_file": self._data_keys.key_file}

    async def _export(self, request: Request) -> object:
        document = document_of(request)
        try:
            text = self._data_keys.text()
        except DataKeyMissing as missing:
            raise NotNow(str(missing)) from missing
        await self._audit(document, "export keys of data", self._data_keys.in_use() or "", "")
        return {"text": text, "keys": self._data_keys.ids()}

    async def _exported(self, request: Request) -> object:
        document = document_of(request)
        wanted = document.get("keys")
        known = self._data_keys.ids()
        if not isinstance(wanted, list) or not all(key_id in known for key_id in wanted):
            raise BadRequest("keys must be a list of ids of keys of data")
        await self._data_keys.note_exported(wanted)
        return {"keys": wanted}

    async def _import(self, request: Request) -> object:
        document = document_of(request)
        text = document.get("text")
        if not isinstance(text, str):
            raise BadRequest("text must be an export of keys of data")
        try:
            new = await self._data_keys.restore(text)
        except ValueError as error:
            raise BadRequest(f"this is no export of keys of data: {error}") from error
        await self._audit(document, "import keys of data", self._data_keys.in_use() or "", " ".join(new))
        return {"keys": list(new), "key_file": self._data_keys.key_file}

    async def _audit(self, document: Mapping[str, Any], what: str, key_id: str, detail: str) -> None:
        await self._store.audit(
            at=self._clock.seconds(),
            who=text_of(document, "by", "operator"),
            what=what,
            subject=f"key of data {key_id}".strip(),
            detail=detail[: views.DETAIL_MAX],
        )


def data_key_row(state: DataKeyState) -> views.Row:
    """One key of data."""
    record = state.record
    if not state.is_here:
        shown = "missing"
    else:
        shown = "in use" if record.retired_at is None else "retired"
    return {
        "key": record.key_id,
        "state": shown,
        "since": views.moment(record.since),
        "retired_at": views.moment(record.retired_at),
        "exported_at": views.moment(record.exported_at),
        "versions": state.version_count,
    }
