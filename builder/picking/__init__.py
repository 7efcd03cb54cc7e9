"""On a GPU server: what the machine is, which image fits it, and what is wrong there."""
