"""A cache of decoded images, and an index of image headers."""

from lossmith.data.cache.folder import CachedImage, CacheFolder, default_cache_folder
from lossmith.data.cache.image_cache import ImageCache, current_cache, use_cache

__all__ = ["CacheFolder", "CachedImage", "ImageCache", "current_cache", "default_cache_folder", "use_cache"]
