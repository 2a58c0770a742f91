"""Models: what one is and the proof that it is exact, its file, and where files are found (format_spec.md, section 6).

The packaged models lie here too, each a .safetensors file with its card in Markdown.
"""
