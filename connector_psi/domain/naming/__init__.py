"""Keys of names and of what corroborates them, for matching that shows neither."""
