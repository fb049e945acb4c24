"""A run on disk: its folder, its checkpoints, its metrics, and how it is found again."""
