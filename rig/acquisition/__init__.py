"""Runs a session: the engine, its threads and its child processes."""
