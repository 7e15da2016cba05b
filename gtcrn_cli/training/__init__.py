"""Training: corpora, mixtures, losses, the loop, and the ablation of skip fusion."""
