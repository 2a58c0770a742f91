"""Time and sameness: a refinement step, whole commands, and equal bytes on every way of decoding."""
