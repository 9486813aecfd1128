"""rehost moves a containerised backend onto a machine its owner controls."""

__version__ = "0.1.0"
