"""Measures of a finished run: plain functions over its folder, for notebooks and reports. Nothing here trains."""
