"""Render Dockerfiles, and build them with Docker, BuildKit or buildah."""
