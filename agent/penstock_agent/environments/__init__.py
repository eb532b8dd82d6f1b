"""Python environments that steps ask for: built with uv, once for each, and kept while there is room."""
