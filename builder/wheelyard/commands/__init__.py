"""One module per subcommand: `register` declares it, `run` executes it."""
