"""The mover of a raw tape in a drive of the virtual library: ``python -m coldstore.appliance.virtual_mover DEVICE``."""

import sys

from coldstore.tape.raw.child import main
from coldstore.vtl.tape import VirtualTape

if __name__ == "__main__":
    main(sys.argv[1:], VirtualTape)
