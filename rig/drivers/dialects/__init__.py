"""Wire formats, one per file: bytes to numbers and back, without any input or output of their own."""
