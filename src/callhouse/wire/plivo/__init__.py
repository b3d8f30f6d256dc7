"""The Plivo call API."""
