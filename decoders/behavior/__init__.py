"""What the animal does, read from its cortex."""
