"""``python -m ppar_lightning`` is ``ppar``."""

from ppar_lightning.cli import main

main()
