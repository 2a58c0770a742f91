"""Messages inside the latents of a picture: lossy bits-back coding (format_spec.md, section 8).

A wing with two doors: decoding uses `extract`, and only for a file that carries a message; encoding uses `embed`.

    message, carriers -> likelihood -> distributions -> posterior -> carrier_coder -> extract
                                                                                   -> embed

Imports `latents` and what lies below it, and no torch: both sides repeat its arithmetic to the last bit.
"""
