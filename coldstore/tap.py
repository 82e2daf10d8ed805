"""``twistd coldstore --config FILE``: read the configuration and build the appliance."""

import os
import sys
from typing import Any

from twisted.application.service import IService
from twisted.python.usage import Options as TwistedOptions

from coldstore.config.errors import ConfigurationError
from coldstore.config.reading import load


class Options(TwistedOptions):
    """The command line after ``twistd coldstore``."""

    synopsis = "[--config FILE]"
    longdesc = (
        "An S3 archive endpoint in front of a tape library. Without a file it runs on its built-in defaults: SQLite "
        "metadata and a virtual library in /var/lib/coldstore. COLDSTORE_ variables override single settings."
    )
    optParameters: list[list[Any]] = [
        ["config", "c", None, "the configuration, a YAML file"],
    ]


def makeService(options: Options) -> IService:
    """
    Build the appliance that the configuration describes.

    :raise SystemExit: with status 1 when the configuration cannot be used; every mistake was printed then, and nothing
        was touched.
    """
    try:
        configuration = load(options["config"], os.environ)
    except ConfigurationError as error:
        count = len(error.problems)
        print(f"coldstore: {count} mistake{'s' * (count != 1)} in the configuration", file=sys.stderr)
        print(error, file=sys.stderr)
        raise SystemExit(1) from None
    # Late, so that nothing of the appliance is loaded for a configuration that cannot be used.
    from twisted.internet import reactor

    from coldstore.appliance.clocks import make_steady
    from coldstore.appliance.collecting import spare_what_stays
    from coldstore.appliance.service import Appliance

    make_steady(reactor)
    spare_what_stays()
    return Appliance(configuration, reactor, log_file=options.parent["logfile"] if options.parent else None)
