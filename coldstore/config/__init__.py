"""
The configuration: from a YAML file and the environment to frozen dataclasses, or to the list of every mistake.

``schema`` holds the settings with their built-in defaults (a first run needs no file), ``kinds`` how one value is
written, ``units`` sizes and durations, ``tree`` the documents with the place of every value, ``environment`` the
overriding variables, ``checks`` what settings must be to each other, ``reading`` puts them together: call
``reading.load``.

Decisions. The defaults, the file and the environment are laid over each other as trees whose leaves remember where
they come from, and the result is read once: so every mistake, also a contradiction between a file and a variable, is
named by its place and all are reported together. Unknown keys are mistakes. Paths are absolute, since a daemon changes
its working directory. Secrets are never in the file, only the paths of the files that hold them.

May import ``model`` and ``util``; only ``appliance`` and ``tap`` may import it.
"""
