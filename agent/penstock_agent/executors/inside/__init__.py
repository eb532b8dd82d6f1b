"""What runs in the image of a step that is a Python function: with the standard library alone."""
