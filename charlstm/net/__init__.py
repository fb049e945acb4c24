"""What a recurrent cell is, and how a model of them runs in NumPy."""
