"""Pages and queries of Django from the cache, through the same reader as resources."""
