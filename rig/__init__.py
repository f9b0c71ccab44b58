"""Acquisition: drivers, one clock, one file, and the closed loop. No torch and no Qt in here."""
