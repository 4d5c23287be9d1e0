"""From a float model to a quantised one that keeps its promises: calibrate, equalise, judge, search. No PyTorch."""
