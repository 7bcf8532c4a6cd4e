"""The network: backbone, pooling, head, and inference over batches."""
