"""The segmentation network: backbone, head and classifier. It does not import PPAR."""
