"""Checks of the servers: network, operating system, kernel, time, services."""
