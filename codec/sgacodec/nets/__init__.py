"""A model in float torch, with gradients: what analysis and refinement evaluate.

    evaluator -> rates -> level -> hyperprior, context -> registry -> strips, bits_back

Refinement asks a model for `rate(y, z, round)`, which gives bits and y_hat, for `synthesise(y_hat)`, `y_stride` and
`halo`; encoding asks for `analyse(x)` too. A new entropy model is one more module here and an entry in `registry`.
Needs torch; imports `bitsback` and what lies below it.
"""
