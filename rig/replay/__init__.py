"""A recorded session in the place of the devices: the same Protocols, so nothing downstream can tell."""
