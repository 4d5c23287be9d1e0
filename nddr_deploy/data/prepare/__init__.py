"""Public data sets brought into the layout of `folder`: one module for each, and what they share."""
