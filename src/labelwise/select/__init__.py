"""Budgeted choice: one method per file, verb `select`; rows of the arrays passed in, best first."""
