"""Exact integer networks: the stored layer list, its definition in int64, and a fast float64 evaluation."""
