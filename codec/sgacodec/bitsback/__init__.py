"""Messages inside the latents of a picture: lossy bits-back coding (format_spec.md, section 8)."""
