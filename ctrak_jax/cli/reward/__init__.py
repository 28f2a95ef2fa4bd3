"""Commands that make what questions are asked by."""
