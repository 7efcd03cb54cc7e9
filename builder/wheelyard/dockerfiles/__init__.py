"""Build Dockerfiles with Docker, BuildKit or buildah, and read back what came of it."""
