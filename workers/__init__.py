"""The hands: one process holds one model, and is the only one that writes to it."""
