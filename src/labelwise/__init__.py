"""labelwise decides what to label next and trains on what came back."""
