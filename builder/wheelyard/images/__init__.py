"""From locked stages to images."""
