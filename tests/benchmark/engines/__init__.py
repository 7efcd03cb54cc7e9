"""`make bench-engines`: the same image by pip, docker, BuildKit, buildah and `assemble`."""
