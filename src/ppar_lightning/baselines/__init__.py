"""Methods that PPAR is compared with: ISW and style randomisation."""
