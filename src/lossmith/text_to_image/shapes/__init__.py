"""Generated images of coloured shapes with captions and an exact oracle."""
