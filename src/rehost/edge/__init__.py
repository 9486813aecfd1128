"""Names and what stands in front of the app: the proxy."""
