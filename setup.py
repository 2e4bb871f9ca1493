"""The packages of the wheel; all else is in pyproject.toml. configs/ becomes jaxiqa.configs."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["jaxiqa*"]), "jaxiqa.configs"],
    package_dir={"jaxiqa.configs": "configs"},
)
