"""`rig reconstruct`. Light to import."""


def reconstruct() -> None:
    """Reconstruct movies."""
