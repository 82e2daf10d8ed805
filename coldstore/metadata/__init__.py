"""
Implementations of ``coldstore.interfaces.metadata.IMetadataStore``, one package per technology, and what those of SQL share (``sql``).

May import the model, interfaces and util; never another adapter, nor one backend another, but for ``etcd``, whose replica is a file of
``sqlite``. ``choice`` alone knows the settings and every backend. Each backend keeps the whole contract of
``tests/contract/metadata_contract.py``.
"""
