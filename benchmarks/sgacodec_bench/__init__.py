"""Measurements: real files, real decoders, stated settings."""
