"""What `nddr-data` can do, one module for each: DESCRIPTION, EXAMPLE, `add_arguments` and `run`."""
