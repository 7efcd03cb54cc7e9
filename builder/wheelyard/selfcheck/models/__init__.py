"""Benchmark models: a catalogue, and the same models in PyTorch and in Keras.

A framework is imported only when one of its models is made.
"""
