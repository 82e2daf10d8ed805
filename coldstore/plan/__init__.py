"""
The decisions: pure functions from the time and immutable facts to a value that says what to do. Imports the model only.

``mount`` gives drives their work: ``jobs`` are what there is, ``homes`` which cartridges take which copies, ``turns`` who goes first
and who gives way.
"""
