"""What adapters promise: zope interfaces, the values they exchange and the faults they raise. Imports the model, zope.interface and Deferred only."""
