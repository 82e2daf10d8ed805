"""One suite per interface, run on every implementation of it."""

from twisted.trial import util

# Processes and disks take their time on a machine that has much else to do; what hangs is found all the same.
util.DEFAULT_TIMEOUT_DURATION = 480.0
