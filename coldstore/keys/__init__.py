"""
The secrets of access keys, encrypted where they are kept.

A signature is verified with the secret that made it, so a secret cannot be kept as a hash: the metadata, their dumps and copies would
be enough to act as any user. What they hold is encrypted (AES-256-GCM) under a master key that is not among them: it lies in a file
of its own. Whoever has the one and not the other has nothing; so the file is kept beside the dumps, but elsewhere.

- ``sealing``: the arithmetic, without a file or a store;
- ``keyfile``: the file, and those of earlier keys beside it;
- ``keyring``: what a running appliance holds: finds the right key at the start, encrypts what an older release left in the clear,
  changes one master key for another.
"""
