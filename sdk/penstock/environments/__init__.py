"""The Python environments of steps, as a pipeline's files say them."""
