"""From logits to text: sampling, stop sequences, saved states, novelty."""
