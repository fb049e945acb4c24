"""Runs on disk: folders, checkpoints, metrics, and finding a run by name."""
