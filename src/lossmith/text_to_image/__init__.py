"""Text-to-image: encoders, captions, networks, tasks, metrics and report sections."""
