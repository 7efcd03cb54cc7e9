"""From matrix.yaml and upstream's facts to cells, their tags, and the exclusions. Pure."""
