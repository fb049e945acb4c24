"""Output for people: the only package that imports rich and plotext."""
