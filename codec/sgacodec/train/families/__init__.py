"""Model families: networks that are trained, each with its way into a model file and back.

`base.Family` is what training asks of one, `registry.FAMILIES` lists them. `mean_scale` is the network,
`mean_scale_files` its two ways, `klt` its start; `bits_back` is the network of a bits-back model, `density` the prior
that both have.
"""
