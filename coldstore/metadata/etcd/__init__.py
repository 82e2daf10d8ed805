"""
The metadata in an etcd 3.4 or newer, for appliances of up to about a million objects.

etcd holds every row of the portable tables as a key (``keys``), and is the truth. A local SQLite file is a replica of it
(``replica``): steps run there, as they do in the embedded store, and everything is read there. What the steps of one transaction
changed is noted by triggers (``changes``) and written to etcd as one transaction, a batch (``log``), before it is committed in the
file. ``gateway`` speaks to etcd; ``walk`` reads many keys; ``server`` looks after it; ``schema`` numbers what the rows look
like; ``portable`` reads and writes all of them without a replica; ``store.EtcdStore`` is the way in.

Decisions:

- Rows, and not the steps' own keys: what a step does is written once for all databases, and etcd has no index to be kept.
- The file is disposable. It may be behind after a crash and catches up; it may be lost, and is loaded anew. It is never ahead.
- One writer: a key with a lease, compared in every batch. Another appliance is refused, and one that lost the lease writes again
  only when nobody else has.
- An outcome becomes known whenever etcd answers again: a batch that is written later makes an earlier one void.
- The gateway, because the appliance speaks HTTP already; gRPC would be a second reactor in the process.
"""
