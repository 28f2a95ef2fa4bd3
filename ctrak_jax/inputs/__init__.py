"""What a network is given: samples and conditions, as pixels or as latents and text embeddings."""
