"""Iterative inference: gradient descent on the latents of one picture with annealed stochastic rounding.

    rounding, schedule -> loop:  y, z -> objective (model.rate, model.synthesise) -> gradient -> y, z

`rounding` has one function for each method of the papers, `extrapolation` saves most evaluations of the synthesis,
`log` is what `encode --log` writes. Imports `nets` and what lies below it.
"""
