"""Who runs a process, as the audit trail names him."""

import getpass
import os


def account_name() -> str:
    """Return the name of the account that this process runs as, its number where it has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
