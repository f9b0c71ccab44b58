"""A mouse with known truth: behaviour, cortex under two microscopes, movies to show it."""
