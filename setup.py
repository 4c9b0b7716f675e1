"""Maps the folder `configs/` into the package; all else is in pyproject.toml."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages("src"), "ppar_lightning.configs"],
    package_dir={"": "src", "ppar_lightning.configs": "configs"},
)
