"""Container registries: the OCI distribution protocol."""
