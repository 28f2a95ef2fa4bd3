"""A run on disk: its folder, what each result depends on, its tables and its model."""
