"""A user's own project as an image: the set's image, and only what the project adds."""
