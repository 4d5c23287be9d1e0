"""From an exported model to a TensorRT engine that was looked into and compared: `nddr-build`."""
