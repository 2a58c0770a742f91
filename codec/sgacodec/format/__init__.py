"""Bytes: integers on the wire, and the container of an .sga file (format_spec.md, sections 2 and 3).

Pure functions: no files, no model, no pixels. Imports `errors` and `limits` alone.
"""
