"""Ingest: what senders post → records → the store, and a reply that says what became of each."""
