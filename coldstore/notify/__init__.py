"""
Delivery of messages to the outside: one module per way. Imports model, interfaces and util.

Messages wait in the outbox of the metadata store; ``work.deliverer`` hands them over here and decides when to try again.
"""
