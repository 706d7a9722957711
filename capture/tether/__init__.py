"""Tethered capture: plans, the cameras behind one protocol, and sessions that resume."""
