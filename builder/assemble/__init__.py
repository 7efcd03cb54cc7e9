"""The wheel-to-layer engine: a layer is a pure function of a wheel."""
