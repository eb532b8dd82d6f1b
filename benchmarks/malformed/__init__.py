"""Frames that are no messages, connections that speak nothing, and what healthy callers notice of them."""
