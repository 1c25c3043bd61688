"""Networks that generate images from text, and their samplers."""
