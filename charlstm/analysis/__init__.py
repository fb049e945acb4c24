"""What happens inside a model: traces, gate saturation, features, statistics."""
