"""``twistd coldstore``: names the service; Twisted finds it in this folder, which has no ``__init__.py`` on purpose."""

from twisted.application.service import ServiceMaker

coldstore = ServiceMaker(
    name="coldstore",
    module="coldstore.tap",
    description="An S3 archive endpoint in front of a tape library.",
    tapname="coldstore",
)
