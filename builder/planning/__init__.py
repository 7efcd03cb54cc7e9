"""From matrix.yaml and upstream's facts to cells: tags, configs, and why others are none. Pure."""
