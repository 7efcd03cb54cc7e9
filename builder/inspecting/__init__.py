"""A built image, read back: its files, its distributions, and whether they are the cell's."""
