"""Drawn data: scenes and roads."""
