"""AbC on a small Stable Diffusion: customisations whose exemplars are known, and who finds them."""
