"""What is said about an image and attached to its digest: contents, origin, verification."""
