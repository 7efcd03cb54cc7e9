"""`make bench`: speed, size and memory, as ratios against what runs beside them."""
