"""The site: the guides of docs/, a page for every image, and the reference, all as Markdown."""
