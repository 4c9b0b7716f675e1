"""Reading of a run folder: config, manifest, test results, curves and checkpoints."""
