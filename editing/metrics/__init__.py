"""One file = one measurement. Pure functions of a view; generators of Steps where they run the model."""
