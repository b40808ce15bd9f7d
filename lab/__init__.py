"""A real cluster in miniature on one Linux machine."""
