"""Training, and making model files from trained float weights."""
