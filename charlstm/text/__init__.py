"""From files to characters, ids and streams of them."""
