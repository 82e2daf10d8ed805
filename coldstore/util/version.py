"""The version of ColdStore, in the one place that packaging and the running appliance read it from."""

VERSION = "0.1.0"
