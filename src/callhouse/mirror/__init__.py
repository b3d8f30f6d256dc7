"""Mirrors: accounts at vendors are followed and what they tell is kept. What a vendor is like, its wire API says."""
