"""Resolve cells to exact wheels and Debian packages, and read the locks back."""
