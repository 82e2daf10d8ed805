"""
Implementations of ``coldstore.interfaces.metadata.IMetadataStore``, one package per technology.

May import the model, interfaces and util; never another adapter. Each backend keeps the whole contract of
``tests/contract/metadata_contract.py`` and owns every statement that it sends to its database.
"""
