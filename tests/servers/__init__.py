"""Real database servers of our own, a relay that goes wrong, and what speaks to them."""

from twisted.trial import util

# Servers take their time on a machine that has much else to do; what hangs is found all the same.
util.DEFAULT_TIMEOUT_DURATION = 480.0
