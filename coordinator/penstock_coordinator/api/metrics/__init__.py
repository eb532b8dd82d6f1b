"""What Prometheus asks for. Nothing here has a part in what is counted: it is read when somebody asks."""
