"""Commands that make what questions are asked with."""
