"""Train a benchmark model, in whichever framework, and measure it."""
