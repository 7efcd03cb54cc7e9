"""Read a built image back and compare it with its cell."""
