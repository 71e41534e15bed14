"""Fine-tuning: rows become tokens with a mask, an adapter is trained on them, and the improvement is measured."""
