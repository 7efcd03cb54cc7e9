"""The operating system: files, locks, other programs, and what its errors mean for a user."""
