"""Stage 8: one training loop for every detector; the weighted losses live with their model."""
