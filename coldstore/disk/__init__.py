"""
The disk: staging and cache as files and containers under one directory.

Imports ``coldstore.model``, ``coldstore.interfaces`` and ``coldstore.util``, never another adapter. ``DiskStaging`` in
``staging`` is the only name that others need.

What lies where, below the directory given by the configuration::

    incoming/<name>            a large piece that is arriving; dropped at every start
    files/<xx>/<name>          a large piece, one file; <xx> are the first two digits of its name
    files/<xx>/<name>.blocks   its block checksums, when it has more than one block
    recall/<name>              a container that the mover is filling; dropped at every start
    containers/<name>          many pieces in one file: a segment of small objects, or the extents of one recall
    containers/<name>.records  its list of pieces and their block checksums; a segment has none until it is sealed
    containers/<name>.dead     the pieces in it that were discarded, appended
    used                       the account when it was last noted; only an estimate until the start-up count is through

Decisions:

- A name ends in the tag of the run that made it. So what an earlier run left is known without a record, and nothing is
  ever appended to an earlier run's segment: it is sealed at the next start behind its last whole record.
- Data is durable before its name is: file, then rename, then directory; checksums before the data that they cover.
- The account is kept in the reactor's thread and by what the file system says is allocated (``st_blocks``), taken
  before and after each change; so punched holes, rounding and file systems without holes need no rules of their own.
- A discarded piece inside a container is first marked in ``.dead`` (durably), then its blocks are given back by punching
  a hole; where holes are not supported they stay accounted until nothing in the container lives and it is unlinked.
- All blocking calls run in threads that ``DiskStaging`` owns; state is touched in the reactor's thread only, except
  that of one container, which has a lock.
"""
