"""Queries and answers in the files of other tools: one format per file."""
