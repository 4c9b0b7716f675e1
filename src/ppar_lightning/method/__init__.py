"""PPAR in plain torch: one file for each idea, without any import of Lightning."""
