"""Stores of artifacts, and the way to the one that the settings name."""
