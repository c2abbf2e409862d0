"""How doubtful labels are that are there already: one kind of fault per file, from labels and predictions.

The predictions must come from a model that did not learn from these very labels (out of fold).
"""
