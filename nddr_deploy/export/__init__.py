"""From a checkpoint to an ONNX file: fold BatchNorm, write the graph, compare with PyTorch. Needs PyTorch."""
