"""What `penstock dev` starts on one machine."""
