"""One file per step; each says what it follows."""
