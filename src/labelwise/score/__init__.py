"""Informativeness: one method per file, verb `score`; higher = more worth labelling."""
