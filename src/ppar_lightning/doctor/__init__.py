"""``ppar doctor``: whether a config's folders, files and machine are as training needs them."""
