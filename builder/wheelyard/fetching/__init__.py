"""From an address to a verified file: one HTTP client, resumable downloads, TLS trust."""
