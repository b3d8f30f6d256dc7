"""Callhouse: a self-hosted call-log server."""

__version__ = "0.1.0"
