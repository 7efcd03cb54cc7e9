"""A GPU server: read the machine, pick an image for it, pull and deploy."""
