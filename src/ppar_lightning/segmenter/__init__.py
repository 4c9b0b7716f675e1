"""The network that ships: backbone, head, segmenter. It knows nothing of PPAR."""
