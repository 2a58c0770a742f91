"""The latents y and z: how they are predicted, and in what order they stand in the streams (format_spec.md, section 5)."""
