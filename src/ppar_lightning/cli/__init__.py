"""The command ``ppar``."""
