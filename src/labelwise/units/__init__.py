"""What can be asked: one unit per file."""
