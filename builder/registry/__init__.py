"""Container registries: the OCI distribution protocol, and what Wheelyard says by it."""
