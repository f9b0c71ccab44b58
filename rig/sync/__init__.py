"""One clock for every device."""
