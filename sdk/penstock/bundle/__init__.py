"""Code bundles: a source tree as one archive with a digest."""
