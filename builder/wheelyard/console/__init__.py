"""What people and programs see: progress on stderr, tables and JSON on stdout."""
