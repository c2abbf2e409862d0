"""Runs side by side, their history, and advice."""
