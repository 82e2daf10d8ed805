"""What is wrong with a policy."""


class MalformedPolicy(Exception):
    """A policy that is refused; says which statement, which element and why."""
