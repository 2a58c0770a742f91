"""Experiments: the papers' on refinement, messages, optimisers, and the presets on Kodak."""
