"""The one vocabulary: every source fills it, every wire API is a view of it."""
