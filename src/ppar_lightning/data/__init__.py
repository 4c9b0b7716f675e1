"""Data sets, protocols, sampling, augmentation, batches and the data module."""
