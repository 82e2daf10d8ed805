"""
Keys of the appliance: the master key, under which the secrets of access keys are encrypted where they are kept, and the keys of data, under which
the keys of objects are (SSE-S3).

A signature is verified with the secret that made it, so a secret cannot be kept as a hash: the metadata, their dumps and copies would
be enough to act as any user. What they hold is encrypted (AES-256-GCM) under a master key that is not among them: it lies in a file
of its own. Whoever has the one and not the other has nothing; so the file is kept beside the dumps, but elsewhere.

- ``sealing``: the arithmetic, without a file or a store;
- ``keyfile``: the file, and those of earlier keys beside it;
- ``keyring``: what a running appliance holds: finds the right key at the start, encrypts what an older release left in the clear,
  changes one master key for another.

Keys of data are others, in another file, because they live otherwise: access keys whose master key is lost are made anew, objects whose key of
data is lost are lost; the master key from before is needed until all is encrypted under the next, a key of data as long as there
is a tape. None of them is ever dropped.

- ``datafile``: the arithmetic, the file, and the same text for the safe;
- ``dataring``: what a running appliance holds: compares file and record, makes a key when one is needed first, or another one.
"""
