"""From trained float weights to an integer model file, and back."""
