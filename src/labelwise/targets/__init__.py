"""What is known and what the policy says, as what a model trains on."""
