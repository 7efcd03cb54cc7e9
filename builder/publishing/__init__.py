"""What goes out beside the blobs: bundles, the catalogue, and building a published image again."""
