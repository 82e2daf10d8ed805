"""
The metadata in PostgreSQL 15 or newer, spoken to by txpostgres from the reactor's thread.

``client`` is the only module that knows txpostgres and psycopg2: one connection, with deadlines, errors in ColdStore's own words and
a fence. ``lasting`` keeps one up for as long as the appliance runs; ``bell`` hears what others tell. Sessions are ours from
beginning to end (advisory lock, LISTEN, prepared statements): a pooler that hands them out by transaction cannot be in between.
"""
