"""Builds Dockerfiles with Docker, BuildKit or buildah, and reads the results back."""
