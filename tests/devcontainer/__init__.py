"""Dev containers by the reference CLI and a real engine, on a real devel image."""
