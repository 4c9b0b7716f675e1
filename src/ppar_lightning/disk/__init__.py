"""Files that are written whole, the cache, and files of tensors."""
