"""Commands that train models again."""
