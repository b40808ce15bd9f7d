"""Checks of who can get in: ssh, firewall, accounts."""
