"""The stages of a round, wired to the project folder; their order is `loop.py`'s."""
