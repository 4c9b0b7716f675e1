"""Measures of a finished run, as plain functions for notebooks and reports. Nothing here trains."""
