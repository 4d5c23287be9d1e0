"""A GPU that is not there: what TensorRT and CUDA really offer, version by version, and doubles held to it."""
