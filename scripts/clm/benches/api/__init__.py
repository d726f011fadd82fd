"""REST: lists, searches and the dashboard of a large fleet; events to many watchers."""
