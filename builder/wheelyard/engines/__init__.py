"""A running Docker or podman: find it, load images into it, read them back."""
