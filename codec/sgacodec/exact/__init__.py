"""Networks in exact integers: every machine gets the same numbers (format_spec.md, section 4).

    fixedpoint -> layers -> proof         what a layer is, and why float64 holds every sum
                  layers -> reference     the definition, in int64
                  layers -> fast          numpy, for decoding
                  layers -> on_torch      torch: exact on a GPU, real with gradients
                  layers -> transpose     gradients that both sides of a file compute

Imports `arrays`, `errors` and `limits` alone. Only `on_torch` needs torch; who decodes on a GPU or encodes imports it
when it is needed.
"""
