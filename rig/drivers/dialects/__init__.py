"""Wire formats of serial devices, one a file: bytes in, numbers out, no ports."""
