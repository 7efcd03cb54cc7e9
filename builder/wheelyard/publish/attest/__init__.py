"""Sign images and attach statements about them."""
