"""The version, at home in a module that imports nothing: `fastrnn --version` is to be quick."""

__version__ = "0.1.0"
