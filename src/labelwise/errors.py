"""The error for users; it imports nothing, so that it is there before anything else is loaded."""


class LabelwiseError(Exception):
    """An error that a user can act on: what, where, what was expected, what to do. The CLI prints it and exits 1."""
