"""What is known: label policies (verb `weigh`) and the targets that they make of partial labels."""
