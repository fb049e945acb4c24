"""From files to characters, ids and parallel streams."""
