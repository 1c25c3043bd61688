"""Shards: images, pairs and captions in .tar files of webdataset's layout, local or at a URL."""
