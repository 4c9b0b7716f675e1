"""The one reader of a run folder: config, manifest, test results, curves and checkpoints."""
