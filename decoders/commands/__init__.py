"""What the decoders add to the `rig` command. Light to import: what computes is imported when it is asked for."""
