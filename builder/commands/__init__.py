"""One module per subcommand: `register` declares it, `run` carries it out."""
