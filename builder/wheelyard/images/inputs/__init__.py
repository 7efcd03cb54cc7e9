"""Get what images are made of: wheels, Debian packages, finished layers. Talks to the network."""
