"""
The nouns: immutable values, their states and the tables of which event leads where, and the refusals.

Pure: imports the standard library's value types only.
"""
