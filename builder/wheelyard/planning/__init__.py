"""From matrix.yaml and upstream's facts to cells, their tags, and what is no cell. Pure."""
