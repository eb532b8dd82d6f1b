"""Steps and pipelines in Python: what a definition says, kept apart from the protobuf message that it becomes."""
