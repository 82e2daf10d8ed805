"""How a command ends that is not carried out."""


class Refused(Exception):
    """It cannot be carried out; says why, and what helps."""
