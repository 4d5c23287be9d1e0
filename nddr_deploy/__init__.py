"""Train, export and run multi-task NDDR-CNNs."""
