"""Stages of training: what a step passes through the network, and which parameters move.

`base` has the stages of a whole model (base, hyper, refined), `bits_back` that of a bits-back model.
"""
