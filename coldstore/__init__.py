"""
ColdStore: an S3 endpoint in front of a tape library.

S3 clients PUT objects; the archive scheduler packs them into bundles and streams those onto LTFS cartridges;
RestoreObject brings them back into the cache. One ``twistd coldstore`` process is the appliance.

Who may import whom (kept by ``tests/unit/test_architecture.py``)::

    model  <-  plan, ontape                  pure: values and decisions
    model  <-  interfaces                    what adapters promise
    model, interfaces, util  <-  metadata, disk, tape, notify, keys, testing adapters, never each other
    plan, config  <-  metadata               what to ask for next is a decision, which database a setting
    model, plan, ontape, interfaces, util  <-  s3, admin, work              the parts that act, never each other
    model, plan, interfaces, util, config, metadata  <-  upkeep  <-  admin  the operator's command, without an appliance
    everything but testing  <-  appliance  <-  tap
    util  <-  vtl                            the virtual library's programs stand alone
"""
