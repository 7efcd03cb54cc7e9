"""From locks to finished images: the batch, its report, and the way into an engine."""
