"""The stages of a run: each reads the results of the ones before it and writes its own."""
