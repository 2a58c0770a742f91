"""Entropy coding with integer tables (format_spec.md, sections 5.1, 8.2 and 8.4).

    tables -> range_coder    a queue: what is put first is taken first; for plain files
           -> stack          ANS: what is pushed last is popped first; bits-back coding needs it
           -> lattice        tables of values between the integers, from a finer grid

Tables are data of a model file. `range_coder` is the only importer of constriction. Imports `arrays`,
`errors` and `limits`.
"""
