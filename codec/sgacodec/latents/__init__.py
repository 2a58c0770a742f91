"""The latents y and z: how y is predicted, and in what order they stand in the streams (format_spec.md, section 5).

    z stream -> z -> entropy_model.begin -> (places, mu, table) of a pass -> y of these places -> next pass ... -> y_hat
    y_hat -> synthesis -> pixels

`streams` has the one walk over bands and passes, which writing and reading share. Imports `models` and what lies below
it, and no torch.
"""
