"""Run selfcheck in images and record the results."""
