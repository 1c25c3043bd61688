"""Networks applied to image files: find them, set their knobs, restore whole files and regions."""
