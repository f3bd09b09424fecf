"""The HTTP entrance: one file is one resource."""
