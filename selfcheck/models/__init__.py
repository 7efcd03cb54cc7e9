"""Benchmark models, one module each; a framework's code is imported only when the model is made."""
