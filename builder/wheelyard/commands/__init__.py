"""One module a command: `COMMAND` and `add_arguments` declare it, `run` executes it."""
