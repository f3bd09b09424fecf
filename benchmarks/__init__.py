"""One script a question; results as measured go to LOG.md."""
