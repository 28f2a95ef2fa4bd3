"""Evidence by training again: without the first images of a ranking, or on random halves."""
