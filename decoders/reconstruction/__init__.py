"""What the animal sees, read from its neurons."""
