"""A project: its folder, what is opened of it, what is done again."""
