"""Data: classes, data sets, transforms and the data module."""
