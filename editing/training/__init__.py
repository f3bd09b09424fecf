"""Training of the editors that have to be trained: records, the loop, and what comes of it."""
