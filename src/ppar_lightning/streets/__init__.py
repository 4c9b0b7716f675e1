"""Rendered streets in several appearances: labelled images that need no download."""
