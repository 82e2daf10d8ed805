"""
Tests with a real ``ltfs``: its ``file`` back end plays drive and cartridges. They need ``ltfs``, ``mkltfs`` and ``ltfsck`` on PATH, and /dev/fuse.
"""
