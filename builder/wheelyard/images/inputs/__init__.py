"""Gets what images are made of: wheels, Debian packages, finished layers. Uses the network."""
