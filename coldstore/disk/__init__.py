"""
The disk: staging and cache as files and containers under one directory.

Imports ``coldstore.model``, ``coldstore.interfaces`` and ``coldstore.util``, never another adapter. ``DiskStaging`` in
``staging`` is the only name that others need.

What lies where, below the directory given by the configuration::

    incoming/<name>            a large piece that is arriving; dropped at every start
    incoming/<name>.scratch    what was made ready for the mover (headers of a bundle); never made durable, dropped likewise
    files/<xx>/<name>          a large piece, one file; <xx> are the first two digits of its name
    files/<xx>/<name>.blocks   its block checksums, when it has more than one block
    recall/<name>              a container that the mover is filling; dropped at every start
    containers/<name>          many pieces in one file: a segment of small objects, or the extents of one recall
    containers/<name>.records  its list of pieces and their block checksums; a segment has none until it is sealed
    containers/<name>.dead     the pieces in it that were discarded, appended
    used                       the account when it was last noted; only an estimate until the start-up count is through

Decisions:

- A name ends in the tag of the run that made it. So what an earlier run left is known without a record, and nothing is
  ever appended to an earlier run's segment: it is sealed at the next start behind its last whole record. A disk that takes
  nothing then is served from all the same, and nothing new is taken until that is done (``beginning``).
- Data is durable before its name is: file, then rename, then directory; checksums before the data that they cover.
- The account is kept in the reactor's thread and by what the file system says is allocated (``st_blocks``), taken
  before and after each change; so punched holes, rounding and file systems without holes need no rules of their own.
- A discarded piece inside a container is marked in ``.dead`` (durably). Long stretches of dead pieces are punched out, a
  container in which nothing lives is unlinked, and one of which most is dead is named, for the living to be moved out
  (``containers``): so nothing takes up more than twice what lives in it, and neither the living nor the free space are
  scattered. Discards that come together are noted together (``freeing``).
- Small pieces that will stay on the disk, and those that go once they are on tape, have segments of their own.
- All blocking calls run in threads that ``DiskStaging`` owns; state is touched in the reactor's thread only, except
  that of one container, which has a lock.
"""
