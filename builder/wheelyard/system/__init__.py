"""The operating system: files, locks, processes, threads and URLs."""
