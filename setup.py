"""Packages are found here, since ``datasets/`` beside the library is installed as ``kalmanssl.datasets``."""

from setuptools import find_packages, setup

setup(
    packages=find_packages(include=["kalmanssl", "kalmanssl.*"])
    + [f"kalmanssl.{name}" for name in find_packages(include=["datasets", "datasets.*"])],
    package_dir={"kalmanssl.datasets": "datasets"},
)
