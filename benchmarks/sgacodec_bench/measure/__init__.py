"""Measuring codecs with real files: one file, a grid of images and settings, files of equal size, results as JSON."""
