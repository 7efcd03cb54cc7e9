"""Build a batch of images: bases, results, the report, loading and pruning."""
