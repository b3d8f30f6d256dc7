"""The Fuse call-log API."""
