"""Statistics of an untouched model: the second moment of its keys, and its own sampled texts."""
