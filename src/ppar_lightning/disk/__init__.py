"""Files that are written whole or not at all, the cache, and files of tensors."""
