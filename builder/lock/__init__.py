"""lock: the one stage that asks the network which versions there are, and writes them down."""
