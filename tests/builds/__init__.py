"""Small builds again and again, environments, mutants: unit tests that take minutes."""
