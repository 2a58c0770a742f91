"""A model in float torch, with gradients: what analysis and refinement evaluate; needs torch."""
