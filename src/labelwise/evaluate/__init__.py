"""How good the model is."""
