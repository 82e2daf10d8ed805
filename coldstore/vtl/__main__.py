"""``python -m coldstore.vtl``: the command ``coldstore-vtl``."""

import sys

from coldstore.vtl.main import main

sys.exit(main())
