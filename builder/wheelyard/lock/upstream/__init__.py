"""Read what upstream ships from its wheels, keep it as a data file, and watch it."""
