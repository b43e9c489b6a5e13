"""Making and reading key material: the dealer, and the group file."""
