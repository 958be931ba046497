"""IMPACT: the acoustic foundation model (arXiv 2507.06481): network, pretraining, export, pooling."""
