"""Making and reading key material: the dealer, the group file, and the files of other tools."""
