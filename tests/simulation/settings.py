"""The configuration of a simulated appliance: a small one, so that hours are full of events."""

import yaml

from coldstore.config.reading import read
from coldstore.config.schema import Configuration

DRIVES = 2
CARTRIDGES = 40
SLOTS = 48
DAY_SECONDS = 86_400.0

TEXT = """
state_directory: /state
staging:
  capacity: 24MiB
  min_free: 256KiB
  segment: 1MiB
  small_object: 64KiB
  threads: 4
archive:
  bundle_size: 512KiB
  bundle_members_max: 60
  trigger: {size: 1MiB, objects: 120, age: 2h, idle_age: 30m}
  session: 6MiB
  sync: 1MiB
  sync_age: 10m
  another_drive: 4MiB
  reserve: 512KiB
recall:
  batch_members: 50
  tiers:
    expedited: {enough: 1MiB}
    standard: {enough: 1MiB, enough_items: 20}
    bulk: {enough: 1MiB, enough_items: 20, hold: 2h}
notify:
  give_up: 4d
"""


def configuration(extra: str = "") -> Configuration:
    """Return it; ``extra`` is YAML laid over it by whole sections."""
    sections = {**yaml.safe_load(TEXT), **(yaml.safe_load(extra) or {})}
    return read(yaml.safe_dump(sections), "simulation", {}, lambda _path: None)
