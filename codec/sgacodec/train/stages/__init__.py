"""Stages of training: what a step passes through the network, and which parameters move."""
