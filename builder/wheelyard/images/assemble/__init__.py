"""Make an OCI image of locked wheels and Debian packages."""
