"""Locks and plan in, Dockerfiles and other committed text out. Pure."""
