"""What was promised of a model file, measured and signed: the deployment card, and its check on another machine."""
