"""Everything is in pyproject.toml; this file is for tools that still look for one."""

from setuptools import setup

setup()
