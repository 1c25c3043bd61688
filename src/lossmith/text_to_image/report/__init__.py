"""Report sections of text-to-image runs."""
