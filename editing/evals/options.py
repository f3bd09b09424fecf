"""What can be chosen of each suite, as blocks of knobs. Standard library only."""
