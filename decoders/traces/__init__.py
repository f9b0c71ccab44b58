"""Frames to neurons: regions of interest, traces, responses."""
