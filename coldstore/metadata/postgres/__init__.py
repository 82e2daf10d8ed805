"""
The metadata in PostgreSQL 15 or newer, spoken to by txpostgres from the reactor's thread.

``client`` is the only module that knows txpostgres and psycopg2: one connection, with deadlines, errors in ColdStore's own words and
a fence. ``lasting`` keeps one up for as long as the appliance runs; ``bell`` hears what others tell. Sessions are ours from
beginning to end (advisory lock, LISTEN, prepared statements): a pooler that hands them out by transaction cannot be in between.

``store`` is the way in. The ``writer`` puts steps into transactions, in which ``groupcommit`` finds those that fail; ``readers`` give
questions to connections of their own. ``waves`` runs steps side by side that touch nothing in common (``sql.footprints``), ``merging``
makes one question of all that they ask and one statement of all that they write; ``database`` runs a step by itself. ``sessions``
begins each session, ``schema`` makes the tables; ``succession`` hears of another writer.

Decisions:

- One process writes. Its session holds an advisory lock, and a row (``writer``) names the process: who lost its session and finds
  that another one has written is of no use any more, because it remembers what is not so.
- What a commit came to is never guessed. Each transaction writes its number into that row; when the connection ends in a commit the
  next session takes the lock, behind which nothing of the earlier one is under way, and reads which number is there.
- So steps whose connection ended are run again, once and only once; who asked learns nothing of a server that was restarted, unless it
  is away for longer than ``connect_timeout``.
- Plans do not depend on statistics: what reads more than it answers is switched off, and each statement has its index.
- A round trip costs more than what is done in it, and a plan more than what it finds: steps that are given at once share both.
"""
