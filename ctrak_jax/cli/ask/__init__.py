"""Commands that answer one question, and explain the answer."""
