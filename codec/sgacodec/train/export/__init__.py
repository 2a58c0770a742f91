"""From trained float weights to an integer model file, and back.

integers: networks, both ways;  tables: distributions;  bits_back: a bits-back model;  publish: a run's outcome;
cost: what integers lose
"""
