"""The web console: pages for people, from the same queries as the APIs."""
