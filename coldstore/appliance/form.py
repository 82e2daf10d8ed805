"""Which form the volumes of this appliance have: a change of it in the configuration would find every cartridge to hold what is not ours."""

from pathlib import Path

from coldstore.interfaces.metadata import IMetadataStore
from coldstore.model.cartridges import VolumeForm
from coldstore.util.notes import note, noted

NOTE = "filesystem"


class OtherForm(OSError):
    """The configuration asks for volumes of another form than those that were written."""


async def demand_form(form: VolumeForm, *, state_directory: Path, store: IMetadataStore) -> None:
    """
    See that cartridges can be used as volumes of this form, and note it.

    :raise OtherForm: there are cartridges with volumes of the other one
    """
    path = state_directory / NOTE
    # An earlier release, which left no note, knew LTFS alone. Of a note that says nothing, a power failure took the words.
    before = (noted(path) or form.value) if path.exists() else VolumeForm.LTFS.value
    if before != form.value:
        written = [cartridge.barcode for cartridge in await store.cartridges() if cartridge.volume_uuid]
        if written:
            raise OtherForm(
                f"tape.filesystem is {form.value}, and {len(written)} cartridges were written with {before} "
                f"({', '.join(written[:3])}{', ...' if len(written) > 3 else ''}): set it back, or use another state_directory"
            )
    note(path, form.value)
