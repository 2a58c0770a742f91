"""Measurements: real files, real decoders, stated settings.

    codecs -> measure -> experiments, speed -> report

`codecs` adapts every codec to one call, `measure` runs grids of images and settings into JSON, `experiments` repeats the
papers', `speed` times steps and commands, `report` writes tables, plots and pages from the JSON.
"""
