"""`make bench-publish`: from wheels on disk to a training step elsewhere."""
