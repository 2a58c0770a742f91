"""Iterative inference: gradient descent on the latents of one image with annealed stochastic rounding."""
