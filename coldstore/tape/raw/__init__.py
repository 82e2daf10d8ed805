"""
A tape file system without a file system: plain tar files separated by file marks on a raw tape, for drives without partitions and for sites
without LTFS. The format is ``ontape/FORMAT-TAR.md``; ``mt`` and ``tar`` alone read it.

Decisions of this chapter:

- All tape I/O happens in a child process (``child``; ``survey`` finds out for it what is on a tape) that can be killed. It holds the
  non-rewinding device open from mount to unmount, so that no other program can move the tape (st allows one opener).
- The tape is only ever appended to. What a crash or the end of the tape cut off stays where it is, closed by a file mark, and is listed
  nowhere; so no mistake about where something ends can destroy what was written before.
- A file counts once an index that lists it is on tape: the last tape file of a volume that was closed cleanly is an index of everything on
  it. A mount reads that one file; the local working copy of the index (``workingcopy``) serves a child that was started again and nothing else.
- Every write begins where the drive itself says that the data ends, and its end is compared with the number of blocks written: a tape that
  somebody moved or wrote on is noticed before anything is said to be on it.
- A file mark is written with the drive waiting until everything before it is on the medium. A driver that was told not to wait is refused.
"""
