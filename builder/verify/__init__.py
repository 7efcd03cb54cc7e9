"""Run what an image carries for its own proof, and write down what came of it."""
