"""Every bound on untrusted input, in one place."""

MAX_PIXELS = 2**28
"""Default bound on width * height of an image; `decode(..., max_pixels=)` raises it."""

MAX_SIDE = 2**24
"""Largest width or height the format allows, in pixels."""

MAX_BANDS = 2**16
"""Most y bands in one file."""

MAX_SECTIONS = 64
"""Most optional sections in one file."""

MAX_SECTION_BYTES = 2**26
"""Largest optional section other than alpha, after inflating, in bytes."""

MAX_ESCAPE_BITS = 20
"""Longest Exp-Golomb prefix of an escaped symbol; a symbol's magnitude stays below 2^21."""

MAX_MESSAGE_BYTES = MAX_SECTION_BYTES
"""Longest message, after inflating, in bytes."""

MAX_POSTERIOR_STEPS = 64
"""Most refinement steps of a bits-back posterior: extraction repeats them."""

MAX_MODEL_BYTES = 2**30
"""Largest model file, in bytes."""

MAX_LAYERS = 256
"""Most layers in one network of a model file."""

MAX_CHANNELS = 2**14
"""Most channels of an activation in a network of a model file."""
