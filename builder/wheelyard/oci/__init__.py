"""The formats of the Open Container Initiative: layouts, archives, addresses and documents."""
