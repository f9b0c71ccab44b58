"""Live and offline decoders: what the animal does and what it sees, read from its cortex. No Qt in here."""
