"""Dev containers: their configurations, images and pins."""
