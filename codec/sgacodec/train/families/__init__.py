"""Model families: networks that are trained, each with its way into a model file and back."""
