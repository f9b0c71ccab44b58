"""Published and own layouts of recordings, one per file."""
