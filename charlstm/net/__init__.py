"""The recurrent cells: their specification, and the NumPy engine that runs models."""
