"""The command and the local supervisor: above all other packages, imported by none."""

from importlib import metadata


def version() -> str:
    """Version of the installed distribution."""
    return metadata.version("trimtab")
