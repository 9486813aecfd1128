"""Machines, addresses, firewalls and disks: Compute Engine, or a host that stands already."""
