"""Publish images: push, catalogue, bundles, and building a published image again."""
