"""Wheels in, reproducible layers out: a layer is a pure function of a wheel."""
