"""Many trainings that make one table: methods against each other, over seeds, beside the paper's numbers."""
