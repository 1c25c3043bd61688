"""The sections of the report that text-to-image adds."""
