"""The use cases. Each takes an open transaction first and never commits: the edge does."""
