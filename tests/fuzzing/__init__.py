"""
A running appliance under requests that are nearly right: ``tests/fuzz``.

``case`` is what can be asked, as a value that a file can hold; ``operations`` makes a valid request of every operation, ``mutations``
spoils some of them before they are signed, so that they reach what lies behind the signature, and others as bytes on their way. ``signing``
signs whatever it is given, ``wire`` makes bytes of it, ``client`` delivers them whole, in pieces, in part. ``judge`` says what must not be of
an answer; ``ground`` is a bucket and what it looks like, which no refused request changes; ``campaign`` brings all of that together, and
watches log and memory.

A case is made from the seed and its number alone. What one finding needs to be repeated is in its file.
"""
