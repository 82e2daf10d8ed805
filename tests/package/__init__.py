"""The Debian package: built, checked, installed in a clean Debian 12, used there, removed. Needs root and the network."""
