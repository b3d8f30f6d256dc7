"""The DEV call-log API."""
