"""How alike synthetic and recorded sounds are, and how alike independent noise would be."""
