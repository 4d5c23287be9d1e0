"""Looking into an exported model: what each task takes from each stream, and what it costs."""
