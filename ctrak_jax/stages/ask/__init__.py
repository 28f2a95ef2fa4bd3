"""Questions of one's own to a run, and what explains their answers."""
