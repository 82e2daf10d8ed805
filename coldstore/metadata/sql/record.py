"""The store as a whole: whose record it holds, and whether it holds it."""

from coldstore.interfaces.metadata import RecordElsewhere
from coldstore.metadata.sql.database import Database


async def appliance_id(db: Database) -> str:
    """
    Return the id that the store was given when it was new.

    :raise RecordElsewhere: the record was moved away, or has not arrived whole
    """
    found, arriving_from, moved_to = await db.row("SELECT appliance_id, arriving_from, moved_to FROM store")
    demand_record(arriving_from=arriving_from, moved_to=moved_to)
    return str(found)


def demand_record(*, arriving_from: str, moved_to: str) -> None:
    """
    See that a store holds the record, by its marks.

    :raise RecordElsewhere: it does not; says what to do
    """
    if arriving_from:
        raise RecordElsewhere(
            f"the metadata here are not whole: what comes from {arriving_from} has not come to its end; "
            "run the same `coldstore db restore` or `coldstore db move` again"
        )
    if moved_to:
        raise RecordElsewhere(
            f"the metadata were moved to {moved_to}, and what is here is out of date; "
            "name that store in the configuration (metadata), or bring it back by `coldstore db move`"
        )
