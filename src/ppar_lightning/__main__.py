"""``python -m ppar_lightning`` is ``ppar``."""

from ppar_lightning.cli.main import main

main()
