"""
What lies on a cartridge: how bundles, manifests and labels are laid out byte for byte, and how they are read.

FORMAT.md beside this file is the specification; these modules are one implementation of it. Everything here is pure:
standard library only, no I/O but on file objects passed in, no clock, no chance. It may import ``coldstore.model`` and
nothing else of the product.

Decisions:

- A bundle is a POSIX pax tar that GNU tar and Python read without a warning. What tar has no field for travels in the
  standard record ``comment``, the one record of free text that every reader ignores silently.
- The same plan gives the same bytes, always: copies are compared by one SHA-256.
- Readers are strict: what they accept is what the writer would have written, or they say what is damaged and where.
- A cartridge must be readable without this software, so every text on it is plain, and lines have a fixed order of
  fields that ``awk`` can rely on.
"""
