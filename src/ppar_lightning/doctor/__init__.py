"""``ppar doctor``: checks the folders, files and machine that a config needs."""
