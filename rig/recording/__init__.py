"""The session file: what is in it, writing, reading, verifying and recovering it."""
