"""Engines for a command's tasks: processes of this machine, or the nodes of a Ray cluster."""
