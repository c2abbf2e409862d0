"""What is known: queries, answers, labels, costs; append-only."""
