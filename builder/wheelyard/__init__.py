"""Wheelyard: GPU deep-learning images, assembled from wheels."""

__version__ = "0.1.0"
