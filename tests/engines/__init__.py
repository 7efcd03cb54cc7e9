"""Docker Engine old and new, BuildKit, podman and buildah: what is built here, and run by them."""
