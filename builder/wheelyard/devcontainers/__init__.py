"""Make the images of dev containers and of a project that brings its own."""
