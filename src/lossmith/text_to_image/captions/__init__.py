"""Images with captions: from folders, archives and tables to training items."""
