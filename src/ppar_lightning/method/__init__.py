"""PPAR in plain torch, one file an idea. It knows nothing of Lightning."""
