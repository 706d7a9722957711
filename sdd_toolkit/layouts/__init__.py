"""Imports published data sets and exports packed ones as frames, patches or archives: `sdd import`, `sdd export`."""
