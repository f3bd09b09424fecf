"""One file = one measurement. Pure functions of a view; generators where they run the model."""
