"""A classifier as a reward: of a data set's attributes, or of two folders of examples."""
