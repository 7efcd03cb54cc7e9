"""The real images for arm64, under qemu: no arm64 machine is needed."""
