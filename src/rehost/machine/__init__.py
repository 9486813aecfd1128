"""One machine over one connection: ssh, the probe, bootstrap, units."""
