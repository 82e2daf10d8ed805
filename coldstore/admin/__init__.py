"""
The operator's view: an HTTP interface over a UNIX socket, the ``coldstore`` command over that, and ``/healthz`` with ``/metrics``.

Who may open the socket may do everything: it belongs to the appliance's user, mode 0600. The command is a thin client that
imports neither Twisted nor the rest, so that it answers at once. Imports model, plan, interfaces and util.
"""
